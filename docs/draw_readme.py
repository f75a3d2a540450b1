"""Draw the picture of the README: a posterior, and its runs in MLflow as Chromium shows them.

    python docs/draw_readme.py RUN_ID        # of an experiment in the store of this folder

It needs the program `chromium`. The experiment gets a view `readme` with its runs unfolded.
"""

import io
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from PIL import Image

import mlpop
from mlpop.tracking import connect, tree
from mlpop.tracking.views import VIEW_TAG

PICTURE = Path(__file__).parent / "images" / "readme.png"
HEIGHT = 560
TABLE = (1500, 640)
"""Window of the browser [pixel]."""
SHOWN = (0, 0, 1500, 640)


def unfolded(run_id: str) -> str:
    """Store a view of the runs of an experiment, all unfolded; return its MLflow experiment."""
    store = connect()
    top = tree(store, run_id)
    runs = [node.run_id for _, node in top.walk()]
    state = {
        "searchFilter": f"tags.`mlpop.root` = '{run_id}'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "selectedColumns": [
            "tags.`mlpop.calibration`",
            "metrics.`val/best_loss`",
            "metrics.`best_val_loss`",
            "metrics.`sim/trained_on`",
        ],
        "runsExpanded": dict.fromkeys(runs, True),
    }
    experiment = store.client.get_run(run_id).info.experiment_id
    store.client.set_experiment_tag(experiment, f"{VIEW_TAG}readme", json.dumps(state))
    return str(experiment)


def screenshot(experiment: str) -> Image.Image:
    """Return MLflow's table of runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        + ["--workers", "1", "--backend-store-uri", connect().uri],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(1)
        page = (
            f"{address}/#/experiments/{experiment}/runs?workflowType=machine_learning"
            "&viewStateShareKey=readme"
        )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "page.png")
            subprocess.run(
                ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
                + [f"--window-size={TABLE[0]},{TABLE[1]}", "--virtual-time-budget=60000"]
                + [f"--screenshot={file}", page],
                check=True,
                capture_output=True,
                timeout=300,
            )
            return Image.open(file).convert("RGB")
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Draw the picture of the run of the command line."""
    run_id = sys.argv[1]
    posterior = mlpop.load_posterior(f"runs:/{run_id}")
    buffer = io.BytesIO()
    posterior.pairplot(20_000, seed=1).savefig(buffer, format="png", dpi=110)
    parts = [Image.open(buffer).convert("RGB"), screenshot(unfolded(run_id)).crop(SHOWN)]
    parts = [part.resize((round(part.width * HEIGHT / part.height), HEIGHT)) for part in parts]
    whole = Image.new("RGB", (sum(p.width for p in parts) + 30, HEIGHT), "white")
    left = 0
    for part in parts:
        whole.paste(part, (left, 0))
        left += part.width + 30
    PICTURE.parent.mkdir(exist_ok=True)
    whole.quantize(128).save(PICTURE, optimize=True)
    print(PICTURE, whole.size, PICTURE.stat().st_size)  # noqa: T201


if __name__ == "__main__":
    main()
