"""A real Prometheus, and promtool, on the two files that the guide to monitoring tells people to write."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / ".cache" / "peers" / "prometheus" / "usr" / "bin"
GUIDE = ROOT / "docs" / "guides" / "monitoring.md"
START_S = 60.0


def program(name: str) -> str:
    """The path of a program of Debian's package; fails where it is not there."""
    path = PROGRAMS / name
    assert path.exists(), f"{name} is not on this machine: run scripts/install-prometheus"
    return str(path)


def guide_file(name: str) -> str:
    """The text of a file that the guide shows."""
    blocks: list[str] = re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text("utf-8"), re.M | re.S)
    return next(block for block in blocks if block.startswith(f"# {name}\n"))


def promtool(*arguments: str, text: str | None = None) -> str:
    """Run promtool; what it said. Fails unless it is content."""
    done = subprocess.run([program("promtool"), *arguments], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Prometheus:
    """One that scrapes ``target`` every second."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=10)

    def ready(self) -> bool:
        """It answers questions."""
        with contextlib.suppress(httpx.HTTPError):
            return self._http.get("/-/ready").status_code == 200
        return False

    def ask(self, query: str) -> dict[tuple[str, ...], float]:
        """The value of each series that a query finds now, by the values of its labels in the order of their names, instance,
        job and name left out."""
        found: list[dict[str, Any]] = self._get("/api/v1/query", query=query)["result"]
        out = ("instance", "job", "__name__")
        return {
            tuple(value for label, value in sorted(one["metric"].items()) if label not in out): float(one["value"][1])
            for one in found
        }

    def rules(self) -> list[dict[str, Any]]:
        """Every alert rule with its health."""
        return [rule for group in self._get("/api/v1/rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str, **params: str) -> Any:
        answer = self._http.get(path, params=params).json()
        assert answer["status"] == "success", answer
        return answer["data"]


@contextlib.contextmanager
def running(folder: Path, port: int, target: str, token: str) -> Iterator[Prometheus]:
    """Prometheus as the guide has it, in ``folder``, listening on ``port``."""
    folder.mkdir()
    config = guide_file("prometheus.yml").replace("127.0.0.1:8025", target).replace("15s", "1s")
    (folder / "prometheus.yml").write_text(config)
    (folder / "mailfleet-rules.yml").write_text(guide_file("mailfleet-rules.yml"))
    (folder / "mailfleet-token").write_text(token)
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        asked = Prometheus(f"http://127.0.0.1:{port}")
        give_up_at = time.monotonic() + START_S
        while not asked.ready():
            assert process.poll() is None, (folder / "output").read_text()
            assert time.monotonic() < give_up_at, (folder / "output").read_text()
            time.sleep(0.05)
        yield asked
    finally:
        process.terminate()
        process.wait(30)
