"""A small data set of all kinds of media, with rejects and with texts that would like to be markup."""

from __future__ import annotations

import io
import json
import wave
from fractions import Fraction

import av
import numpy as np
import webdataset

from pipelines.engine import Engine
from pipelines.executors import executor_for
from pipelines.plan import make_plan, store_root
from pipelines.progress import Log
from schemas.store import Store

EVIL = "<script>document.title = 'owned'</script><img src=x onerror=alert(1)> & \"quotes\""
RECIPE = """\
seed: 5
flows:
  omni:
    - ingest.webdataset:
        path: in.tar
        license: CC0-1.0
        columns: {caption: string, task: string, messages: string, score: float, n: int}
    - filter.where: {as: good, sql: "score >= 0.25", reason: low_score}
    - filter.where: {as: even, sql: "n % 7 <> 3", reason: unlucky}
outputs:
  omni: {pack: omni, to: out/omni, shard: {samples: 10}}
"""


def picture(number: int) -> bytes:
    """A small PNG."""
    return _encoded("png", "rgb24", [number])


def film(number: int) -> bytes:
    """A second of H.264."""
    return _encoded("mp4", "yuv420p", [number + i for i in range(8)])


def _encoded(format: str, pixels: str, numbers: list[int]) -> bytes:
    codec = "png" if format == "png" else "h264"
    out = io.BytesIO()
    with av.open(out, "w", format="image2pipe" if format == "png" else format) as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, 48, pixels, Fraction(1, 8)
        for i, number in enumerate(numbers):
            image = np.full((48, 64, 3), (number * 37 % 256, 120, 200 - number * 11 % 200), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def sound(number: int) -> bytes:
    """Half a second of a tone."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        tone = np.sin(np.arange(4000) * (200 + 20 * number) * 2 * np.pi / 8000)
        file.writeframes((tone * 8000).astype("<i2").tobytes())
    return out.getvalue()


def conversation(answer: str) -> str:
    """Messages with a picture in them."""
    asked = [{"type": "image", "part": "image"}, {"type": "text", "text": "What is this?"}]
    told = [{"type": "text", "text": answer}]
    return json.dumps([{"role": "user", "content": asked}, {"role": "assistant", "content": told}])


def publish(rows: int = 30) -> None:
    """out/omni, in the folder where the test runs."""
    kinds = (("png", picture, "describe"), ("wav", sound, "listen"), ("mp4", film, "watch"))
    with webdataset.TarWriter("in.tar") as sink:
        for i in range(rows):
            extension, make, task = kinds[i % 3]
            fields = {"caption": EVIL if i in (3, 9) else f"number {i}", "task": task, "score": i / rows, "n": i}
            fields |= {"messages": conversation(f"It is {i}.")} if extension == "png" else {}
            sink.write({"__key__": f"s{i:03d}", extension: make(i), "json": fields})
    plan = make_plan("r.yaml", RECIPE)
    store = Store(store_root(plan))
    with executor_for("local", store, plan.models) as executor, open("log", "w") as log:
        Engine(plan, store, executor, Log(log)).run()
