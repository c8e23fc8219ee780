"""The parts of the report page: what is read, which answers are shown, in which words, and the rendering."""
