"""Shared by the scripts that print the LoRA paper's tables: compiling, training, models, tables, figures."""
import argparse
import hashlib
import importlib.util
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

# LORACC: a compiler to use instead of the one that setup builds.
ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES, BUILD = ROOT / "examples", ROOT / "build/paper"
LORACC = pathlib.Path(os.environ.get("LORACC", ROOT / "build/release/loracc"))
CORES = len(os.sched_getaffinity(0))


def arguments(description, seeds=5, needs=("matplotlib",), **more):
    """The command line that all scripts have; `seeds`: how many by default, 0: it has no such option; `needs`: modules without which
    the script ends before its work, not behind it; `more`: further options and their defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=BUILD, metavar="DIR", help="where figures and files go (build/paper)")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that everything works, the figures mean little")
    if seeds:
        parser.add_argument("--seeds", type=int, default=seeds, metavar="N", help=f"runs with different seeds ({seeds})")
    parser.add_argument("--threads", type=int, default=CORES, metavar="N", help="threads (all cores)")
    for name, value in more.items():
        kind = {"action": "store_true"} if value is False else {"type": type(value), "default": value, "help": f"({value})"}
        parser.add_argument("--" + name.replace("_", "-"), **kind)
    a = parser.parse_args()
    if "LORACC" not in os.environ:
        run(ROOT / "examples/paper/setup")
    for module in needs:
        if not importlib.util.find_spec(module):
            sys.exit(f"{parser.prog}: error: no Python module '{module}' for {sys.executable}; examples/paper/setup installs it")
    a.out.mkdir(parents=True, exist_ok=True)
    return a


# --- programs

def run(*argv, text=None):
    """Runs a program; its standard output.  What fails ends the script with its one line."""
    command = [str(x) for x in argv]
    done = subprocess.run(command, input=text, capture_output=True, text=True, errors="replace")
    fail_with(done.returncode, command, done.stderr)
    return done.stdout


def fail_with(status, command, error):
    if status:
        lines = [line for line in error.splitlines() if "error:" in line] or error.splitlines()[-1:]
        sys.exit(lines[0] if lines else f"{command[0]}: exit {status}")


def loracc(*argv):
    return run(LORACC, *argv)


def config(values):
    """A config.json with these values, for --config."""
    text = json.dumps(values, sort_keys=True)
    path = BUILD / "configs" / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(text)
        part.rename(path)
    return path


def info(program, *options):
    """What a program is: --info as a dictionary."""
    return json.loads(run(program, "--info", "--json", *options))


REPORT = {  # what is taken from --report, and how many numbers it is
    "method [^:]*: (\\d+) of (\\d+) parameters trained": ("trained", "total"), "(\\d+) of them the head's": ("head",),
    "plan: \\d+ kernels, arena (\\d+) bytes, weights (\\d+), trained (\\d+)": ("arena_bytes", "weights_bytes", "trained_bytes"),
    "per token: forward ([\\d.]+) MFLOP, backward ([\\d.]+)": ("forward_mflop", "backward_mflop")}


def report(model, *options):
    """Compiles examples/MODEL.ldl; what --report says: trained, head (of these), total (parameters); arena_bytes, weights_bytes,
    trained_bytes (planned); forward_mflop, backward_mflop (of products, for each token)."""
    text, found = loracc(EXAMPLES / f"{model}.ldl", "--report", *options), {"trained": 0, "head": 0}
    for pattern, names in REPORT.items():
        match = re.search(pattern, text)
        for name, value in zip(names, match.groups() if match else ()):
            found[name] = float(value) if "." in value else int(value)
    return found


def plan(model, *options):
    """The same without making a program: needs no weights, and a second at most."""
    return report(model, "--stop-after", "plan", *options)


def compiled(model, program, *options):
    """A program, as a path, and what --report says of it."""
    program.parent.mkdir(parents=True, exist_ok=True)
    return {"program": program} | report(model, "-o", program, *options)


def peak_memory(pid):
    """What a process has held at most, in bytes.  (What wait4 says includes the Python that started it.)"""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def measured(*argv):
    """Runs a program; its seconds and its peak memory in bytes."""
    command, start, peak = [str(x) for x in argv], time.perf_counter(), 0
    with tempfile.TemporaryFile("w+", errors="replace") as error:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=error)
        while process.poll() is None:
            peak = max(peak, peak_memory(process.pid))
            time.sleep(0.01)
        error.seek(0)
        fail_with(process.returncode, command, error.read())
    return time.perf_counter() - start, peak


def train(made, out, *options):
    """Trains what `compiled` made into the folder `out`.  What there is to know: steps, loss (mean of the last tenth of them),
    seconds (of all steps), step_seconds (median), peak (bytes), trained (parameters), file_bytes (of the adapter), and what the
    last evaluation says: validation_loss, accuracy, ..."""
    out.parent.mkdir(parents=True, exist_ok=True)
    metrics = out.with_name(out.name + ".jsonl")
    metrics.unlink(missing_ok=True)
    _, peak = measured(made["program"], "--out", out, "--metrics", metrics, *options)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    steps, adapter = [line for line in lines if "seconds" in line], out / "adapter_model.safetensors"
    last, seconds = [line["loss"] for line in steps[-max(1, len(steps) // 10):]], [line["seconds"] for line in steps]
    evaluated = {key: value for line in lines for key, value in line.items() if "seconds" not in line and key != "step"}
    return evaluated | {"steps": len(steps), "loss": sum(last) / len(last), "seconds": sum(seconds),
                        "step_seconds": statistics.median(seconds), "peak": peak, "trained": made["trained"],
                        "file_bytes": adapter.stat().st_size}


# --- models

def save_tensors(path, shapes, make, dtype="F32"):
    """A safetensors file of tensors of one type, F32 or I32; `make(shape)` is called for one after the other."""
    header, at = {}, 0
    for name, shape in shapes.items():
        start, at = at, at + 4 * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, at]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            file.write(make(shape).astype("<f4" if dtype == "F32" else "<i4").tobytes())


def smollm2():
    """SmolLM2-135M-Instruct (GGUF)."""
    run(EXAMPLES / "fetch-model", BUILD)
    return BUILD / "SmolLM2-135M-Instruct.Q4_1.gguf"


def minilm():
    """all-MiniLM-L6-v2: a folder with the bare encoder.  With CLASSIFIER a classifier on it."""
    run(EXAMPLES / "fetch-model", BUILD, "minilm")
    return BUILD / "all-MiniLM-L6-v2"


CLASSIFIER = "--set", "architectures.0=BertForSequenceClassification"


# --- text

def count(n):
    """A number of parameters as the paper prints it: 4.7M."""
    return f"{n / 1e6:.2f}M" if n < 1e9 else f"{n / 1e6:,.1f}M"


def mib(n):
    return f"{n / 2**20:,.1f} MiB" if n < 2**30 else f"{n / 2**30:,.1f} GiB"


def spread(values, digits=1):
    """Mean and standard deviation, as the paper prints them."""
    mean = sum(values) / len(values)
    deviation = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else 0
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def table(header, rows, title=None):
    """Prints aligned columns: text to the left, figures to the right."""
    cells = [[str(c) for c in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells)]
    right = [all(not c or c[0] in "-+<>0123456789" for c in column[1:]) for column in zip(*cells)]
    if title:
        print(f"\n{title}\n")
    for i, row in enumerate(cells):
        print("  " + "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right)).rstrip())
        if i == 0:
            print("  " + "  ".join("-" * w for w in widths).rstrip())


# --- figures

COLOURS = "#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #000000 #7F7F7F".split()  # Okabe and Ito's, told apart by all eyes
MARKERS = "osD^vPX*<>hd8p"


def figure(columns=1, rows=1, width=6.4, height=4.4, **options):
    """A figure and its axes, whose SVG has the same bytes on every run."""
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "loracc", "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
                            "grid.alpha": 0.3, "axes.axisbelow": True, "axes.prop_cycle": matplotlib.cycler(color=COLOURS)}
    import matplotlib.pyplot as plot
    return plot.subplots(rows, columns, figsize=(width * columns, height * rows), layout="constrained", **options)


def scatter(axes, points, x, y):
    """Points (label, x, y, kind) over a logarithmic axis of x, each with its name beside it, no name on another or on a point.
    Those of one kind have one colour and shape."""
    axes.set(xscale="log", xlabel=x, ylabel=y)
    kinds = list(dict.fromkeys(kind for *_, kind in points))
    for _, a, b, kind in points:
        i = kinds.index(kind)
        axes.plot(a, b, MARKERS[i % len(MARKERS)], color=COLOURS[i % len(COLOURS)], markersize=6)
    axes.margins(0.15)
    axes.figure.canvas.draw()
    boxes = [(px - 4, py - 4, px + 4, py + 4) for px, py in (axes.transData.transform(point[1:3]) for point in points)]
    for label, a, b, _ in points:
        text = axes.annotate(label, (a, b), xytext=(0, 0), textcoords="offset points", fontsize=8, color="#222222", va="center")
        for dx, dy, side in offsets():
            text.set(position=(dx, dy), ha=side)
            box = text.get_window_extent().extents
            if not any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in boxes):
                break
        boxes.append(tuple(box))
        if max(abs(dx), abs(dy)) > 14:
            line = {"arrowstyle": "-", "linewidth": 0.5, "color": "#7F7F7F"}
            axes.annotate("", (a, b), xytext=(dx, dy), textcoords="offset points", arrowprops=line)


def offsets():
    """Places for a name, from the nearest to the farthest: points right or left, above or below."""
    for distance in range(7, 120, 5):
        for dx, dy in (1, 0), (-1, 0), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7), (0, 1), (0, -1):
            yield distance * dx, distance * dy, "left" if dx > 0 else "right" if dx < 0 else "center"


def save_svg(drawing, path):
    drawing.savefig(path, metadata={"Date": None})
    print(f"\nfigure: {path}")
