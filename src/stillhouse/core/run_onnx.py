"""Run an ONNX file in a process that has no torch: `python run_onnx.py MODEL INPUTS.npz OUTPUTS.npz`.

Started as a file of its own, so that nothing of stillhouse is needed where exported models are used.
"""

import sys
import time

import numpy as np
import onnxruntime


def main(model: str, inputs: str, outputs: str) -> None:
    """Outputs by name, and "seconds": the median of five runs on the first item, after a warm-up."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    given = dict(np.load(inputs))
    made = dict(zip([output.name for output in session.get_outputs()], session.run(None, given), strict=True))
    one = {name: values[:1] for name, values in given.items()}
    times = []
    for _ in range(6):
        started = time.perf_counter()
        session.run(None, one)
        times.append(time.perf_counter() - started)
    if "torch" in sys.modules:
        raise SystemExit("torch was loaded")
    np.savez(outputs, **made, seconds=np.array(sorted(times[1:])[2]))


if __name__ == "__main__":
    main(*sys.argv[1:])
