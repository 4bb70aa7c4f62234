"""`python -m tools.bench`: how fast and how large everything is on this machine, beside the machine's own product rate.

Every stage runs in a process of its own, so that its peak memory is its own. Times are medians, after a run that does
not count; a share is counted floating-point operations over the time, beside what a matrix product reaches here.

`measure.py` rows, times and shares; `rendering.py` products, read-out, streaming; `training.py` steps of both stages
and their memory; `sampling.py` samples and batch sizes; `shapes.py` tri-planes and meshes; `points.py` quality against
read-out points; `start.py` imports.
"""
