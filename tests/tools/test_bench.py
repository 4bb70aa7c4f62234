"""The bench: what it counts is counted by hand, and its command says what it does not know."""

from __future__ import annotations

import json

import pytest
import torch

from ddmi.base.coordinates import grid
from ddmi.config import override
from ddmi.training.objectives import AutoencoderObjective
from tools.bench.__main__ import STAGES, main, measured
from tools.bench.measure import operations, step
from tools.bench.points import budgeted, plot
from tools.bench.rendering import paper_field
from tools.bench.training import RECOMPUTING, batch, small


def test_operations_of_a_product():
    a, b = torch.ones(5, 7), torch.ones(7, 3)
    assert operations(lambda: a @ b) == 2 * 5 * 7 * 3


def test_operations_of_the_papers_read_out():
    """Four blocks of width 256 behind fields of 64 channels, and three colours."""
    field, points = paper_field(), grid((8, 8))
    first = 64 * 256 * 2 + 256 * 256  # two layers and a shortcut, where the width changes
    middle = 320 * 256 * 2 + 256 * 256
    last = 256 * 256 * 2
    field(points)  # modulates the weights, once for all calls at this period
    assert operations(lambda: field(points)) == 2 * 64 * (first + 2 * middle + last + 256 * 3)


def test_a_step_trains_every_weight_and_leaves_no_gradient():
    objective = AutoencoderObjective(override(small(), {"domain.encode.base": "8", "autoencoder.decoder.base": "8"}))
    before = [p.clone() for p in objective.model.parameters()]
    step(objective, batch(64, 2, 16))("fp32")
    assert not any(torch.equal(p, q) for p, q in zip(before, objective.model.parameters(), strict=True) if p.any())
    assert all(p.grad is None for p in objective.parameters())


def test_recomputing_is_asked_of_encoder_decoder_and_read_out():
    config = override(small(), dict.fromkeys(RECOMPUTING, "true"))
    assert config.domain.encode.checkpointing
    assert config.autoencoder.decoder.checkpointing and config.autoencoder.readout.checkpointing


def test_a_stage_in_a_process_of_its_own():
    rows = measured("start", quick=True, threads=1)
    assert [row["stage"] for row in rows] == ["import ddmi", "ddmi --help"]
    assert all(row["seconds"] > 0 and row["peak_bytes"] > 1e6 for row in rows)


def test_a_stage_that_fails_is_a_row_and_an_exit_status(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        "tools.bench.__main__.measured", lambda stage, quick, threads: [{"stage": stage, "error": "out of memory"}]
    )
    assert main(["--stages", "product", "--json", str(tmp_path / "b.json")]) == 1
    assert "failed: out of memory" in capsys.readouterr().out
    assert json.loads((tmp_path / "b.json").read_text())["rows"] == [{"stage": "product", "error": "out of memory"}]


def test_unknown_stages_are_named(capsys):
    with pytest.raises(SystemExit):
        main(["--stages", "readuot"])
    assert "unknown stage 'readuot': allowed are" in capsys.readouterr().err
    assert set(STAGES) >= {"product", "readout", "streaming", "points"}


def test_more_time_is_more_steps():
    """Equal time, not equal steps, is what the plot compares."""
    config = budgeted(96, 20.0)
    assert config.domain.points == 96
    assert config.training.autoencoder_steps > 10


def test_the_figure(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [{"stage": "x", "points": n, "decibels": {"1": 20 + n / 100, "2": 18.0}} for n in (32, 1024)]
    plot(rows, tmp_path / "points.png")
    assert (tmp_path / "points.png").read_bytes().startswith(b"\x89PNG")
