"""What tests ask of numpy, in plain Python: the sandbox has the standard library alone."""

NUMPY = """
class {name}:
    inf, nan = float("inf"), float("nan")
    ndarray = type("ndarray", (), {{}})
    float32 = float64 = float

    def allclose(out, exp, rtol=1e-05, atol=1e-08):
        if isinstance(exp, (list, tuple)) or isinstance(out, (list, tuple)):
            both = isinstance(exp, (list, tuple)) and isinstance(out, (list, tuple)) and len(out) == len(exp)
            return both and all({name}.allclose(one, other, rtol, atol) for one, other in zip(out, exp))
        return out == exp or abs(out - exp) <= atol + rtol * abs(exp)

    isclose = allclose

    class testing:
        def assert_allclose(actual, desired, rtol=1e-07, atol=0):
            assert {name}.allclose(actual, desired, rtol, atol)
"""
"""Numbers and lists of them; a list and a number, which numpy would compare one by one, are not close."""
