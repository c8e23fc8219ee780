"""What runs inside the sandbox: standard library and py_landlock only, and nothing of the rest of this distribution."""
