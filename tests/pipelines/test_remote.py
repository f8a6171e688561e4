"""Store and output on an fsspec file system that is no disk."""

from __future__ import annotations

import io
import json
import uuid
from pathlib import Path

from pipelines.engine import Engine
from pipelines.executors import executor_for
from pipelines.inspect.dataset import open_dataset
from pipelines.inspect.rows import rows_of
from pipelines.inspect.stats import stats
from pipelines.inspect.verify import verify
from pipelines.plan import make_plan, store_root
from pipelines.progress import Log
from schemas.store import Store

RECIPE = """\
store: memory://NAME/store
flows:
  texts:
    - ingest.jsonl: {path: in.jsonl, columns: {text: string, n: int}, unit: 3}
    - tests.toys:Square: {as: sq, bad: 4}
outputs:
  texts: {pack: texts, to: "memory://NAME/out", shard: {samples: 3}}
"""


def test_a_run_on_a_remote_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text("".join(json.dumps({"text": f"t{i}", "n": i}) + "\n" for i in range(10)))
    name = uuid.uuid4().hex
    plan = make_plan("r.yaml", RECIPE.replace("NAME", name))
    store = Store(store_root(plan))
    reused = []
    for _ in range(2):
        with executor_for("local", store, plan.models) as executor:
            engine = Engine(plan, store, executor, Log(io.StringIO()))
            engine.run()
        reused.append([run.reused == run.jobs for run in engine.runs])
    assert reused == [[False] * 3, [True] * 3]
    data = open_dataset(f"memory://{name}/out")
    assert verify(data) == ({"shards": 3, "samples": 7}, [])
    assert stats(data)["samples"] == 7
    assert [row["n"] for row in rows_of(data, count=9, rejects=True)] == [0, 4, 8]
    out = Store(f"memory://{name}/out")
    out.delete(next(found.path for found in out.list() if found.path.endswith("000001.tar")))
    assert [problem.what for problem in verify(data)[1]] == ["missing"]
