#!/usr/bin/env bash
# Run the tests as other CPUs would: the kernels of torch, oneDNN and MKL are limited to older instruction sets, with one
# thread and with two, and at last every product is rounded by its shape (tests/rounding.py).
#
#   tests/on_other_cpus.sh [arguments of pytest]        PYTHON=.venv/bin/python
set -u
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
export HF_HUB_OFFLINE=1
failed=()
test_with() { # name, variables..., -- , arguments of pytest
    local name=$1 variables=()
    shift
    while [ "$1" != -- ]; do variables+=("$1"); shift; done
    shift
    echo "== $name"
    env "${variables[@]}" "$python" -m pytest --quiet "$@" || failed+=("$name")
}
for threads in 1 2; do
    for setting in DDMI_AS_IT_IS=1 ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=COMPATIBLE; do
        test_with "$setting, $threads thread(s)" "$setting" "OMP_NUM_THREADS=$threads" -- "$@"
    done
done
test_with "rounded by shape" OMP_NUM_THREADS=1 "PYTHONPATH=tests${PYTHONPATH:+:$PYTHONPATH}" -- -p rounding "$@"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
fi
