"""Cost of a comparison of ranks as tables of docs/distributed.md."""

from __future__ import annotations

from tables import RESULTS, machine_line, ranged, result, table


def costs() -> str:
    """Time on the training's thread, by number of parameters, and of the first rank by number of ranks."""
    found = result(f"{RESULTS}/rank_cost.json")
    rows = [
        (
            f"checksums of {int(size) / 1e6:.0f} million parameters and their gradients, one thread",
            f"{ranged(each['ms'], 1)} ms",
        )
        for size, each in found["checksums"].items()
    ]
    rows += [
        (
            f"a comparison in DDP on {world} ranks, {each['parameters'] / 1e6:.1f} million parameters, "
            f"in the training's thread",
            f"{ranged(each['held_ms'], 1)} ms beside a step of {ranged(each['step_ms'], 1)} ms",
        )
        for world, each in found["training"].items()
    ]
    rows += [
        (
            f"reading and comparing {int(world):,} ranks of {found['store_tensors']:,} tensors, in the first "
            "rank's other thread",
            f"{ranged(each['compare_ms'])} ms",
        )
        for world, each in found["store"].items()
    ]
    size = max(each["bytes_per_rank"] for each in found["store"].values())
    note = (
        f"A rank of {found['store_tensors']:,} tensors leaves {size:,} bytes in the store each time. "
        "Times in a training's thread are the processor's; others by the clock; median (least … most)."
    )
    head = ("what", "measured")
    return "\n".join([*table(head, rows), "", f"{note} {machine_line(found['machine'])}."])
