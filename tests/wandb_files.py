"""What W&B has written of a run, from its file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def wandb_records(path: Path) -> list[Any]:
    """Records of a file; W&B ends it a moment after the run, or never where the process was killed."""
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    records: list[Any] = []
    for _ in range(10):
        store, records = DataStore(), []
        store.open_for_scan(str(path))
        while (data := store.scan_data()) is not None:
            records.append(Record.FromString(data))
        store.close()
        if records and records[-1].WhichOneof("record_type") == "exit":
            break
        time.sleep(0.1)
    return records
