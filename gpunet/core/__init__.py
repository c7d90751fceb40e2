"""Floor 2: what a learner reads first. Primitive, Tensor, tape, Variable and trace.

Read `primitive.py` (what an op is), `tensor.py`, `autograd.py` (the tape), `variable.py` and
`trace.py`, in this order.
"""
