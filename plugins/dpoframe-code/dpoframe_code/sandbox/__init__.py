"""A sandbox for generated code: programs in, answers out, and locks that hold.

    from dpoframe_code.sandbox import Call, Limits, run

    run("def double(x): return 2 * x", [Call("double", (21,))])[0].value    # 42

The tests of a problem never enter the sandbox with the program: a locked child gets the program and the arguments of its
calls, and sends back answers as plain data, which are compared outside. THREATS.md says what that stops, and what not.
"""

from __future__ import annotations

from dpoframe_code.sandbox.call import Call
from dpoframe_code.sandbox.equality import equal
from dpoframe_code.sandbox.limits import Limits
from dpoframe_code.sandbox.machine import Missing, Probe, probe
from dpoframe_code.sandbox.outcome import Outcome, Status
from dpoframe_code.sandbox.sandbox import Sandbox, run
from dpoframe_code.sandbox.tier import Tier
from dpoframe_code.sandbox.wire import WireError

__all__ = ["Call", "Limits", "Missing", "Outcome", "Probe", "Sandbox", "Status", "Tier", "WireError", "equal", "probe", "run"]
