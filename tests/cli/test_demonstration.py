"""The demonstration: an unknown one is refused, and a stopped one goes on and ends with its page."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny

from ddmi import domains, presets
from ddmi.base.errors import UserError
from ddmi.base.interruption import Interruption
from ddmi.cli import demonstration as demo
from ddmi.evaluation import Protocol
from ddmi.model.sampling import SamplingConfig


def test_an_unknown_demonstration_names_the_known_ones():
    with pytest.raises(UserError, match="did you mean 'image'"):
        demo.run("imag")


def test_every_demonstration_has_a_preset():
    assert presets.demos() == domains.names()
    for name in domains.names():
        shown = presets.demo(name)
        preset = presets.find(shown.config.name)
        training = replace(shown.config.training, autoencoder_steps=preset.training.autoencoder_steps)
        assert replace(shown.config, training=training) == preset and domains.name_of(preset.domain) == name


def test_it_trains_reports_and_goes_on(tmp_path, monkeypatch, capsys, pictures):
    """The same with a preset of a few steps, on a folder of pictures instead of the drawings."""
    from ddmi import report

    monkeypatch.setattr("ddmi.metrics.features.load", lambda name: tiny.Features())
    config = tiny.config(autoencoder_steps=2, diffusion_steps=2)
    asked = []

    def train(config, folder, *, resume, max_minutes):
        from ddmi.training.run import train

        asked.append(train(config, folder, pictures, resume=resume, max_minutes=max_minutes))
        return asked[-1]

    write = report.write
    shown = presets.Demo(config=config, minutes=0.0, samples=2)
    monkeypatch.setattr(demo.presets, "demo", lambda name: shown)
    monkeypatch.setattr(demo, "paced", lambda config, minutes: config)
    monkeypatch.setattr(demo, "train", train)
    monkeypatch.setattr(demo.report, "write", lambda folder, protocol: write(folder, pictures, protocol))
    protocol = Protocol(samples=2, sampling=SamplingConfig(steps=1))
    assert demo.run("image", tmp_path / "run", max_minutes=0, protocol=protocol) == tmp_path / "run"  # nothing to show
    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "due", property(lambda self: self._patient))  # the time is up after a step
        first = demo.run("image", tmp_path / "run", max_minutes=60, protocol=protocol)
    assert first == tmp_path / "run" / "report.html" and 'id="samples"' not in first.read_text()
    second = demo.run("image", tmp_path / "run", protocol=protocol)
    assert asked == [False, False, True] and 'id="samples"' in second.read_text()
    written = capsys.readouterr()
    assert "the report:" in written.err and "memorisation ratio" in written.err and not written.out


@pytest.mark.parametrize(("seconds", "steps"), [(1e9, 50), (0.0, 300), (3.0, 100)])
def test_the_pace_is_the_machines_within_bounds(monkeypatch, seconds, steps):
    """Six minutes at 3 s a step are 120 steps, in hundreds 100; at least the preset's own, at most six times them."""

    class Step:
        pass

    step = Step()
    step.seconds = seconds
    monkeypatch.setattr(demo, "steps", lambda config: {"diffusion": step})
    paced = demo.paced(tiny.config(diffusion_steps=50), 6.0)
    assert paced == tiny.config(diffusion_steps=steps)
