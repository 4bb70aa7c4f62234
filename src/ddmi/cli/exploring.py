"""Commands that explore: the local web application, and what a file says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddmi.base.errors import UserError
from ddmi.base.terminal import say, table

FIRST = "emoji-64"
"""The model that the page opens with where none is named."""


def app(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL...]", help="Models or run folders; without any, those of `ddmi models`."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's own let others in.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 7860,
) -> None:
    """Explore samples in the browser: zoom, turn, play, interpolate. Nothing leaves this machine."""
    from ddmi import weights
    from ddmi.app import serve

    def ready(url: str) -> None:
        say(url)
        typer.echo("ddmi: open this address in a browser; Ctrl-C ends the application", err=True)

    serve(models or sorted(weights.names(), key=lambda name: name != FIRST), host, port, ready)


def info(file: Annotated[Path, typer.Argument(help="A file that ddmi has written.")]) -> None:
    """Show how the sample in a file was made, and the command that makes it again."""
    from ddmi.recipe import Recipe
    from ddmi.rendering import metadata

    found = metadata.read(file)
    if found.get("program") != "ddmi":
        raise UserError(f"{file} has no metadata of ddmi")
    say(table([("", ""), *((name, str(value)) for name, value in found.items())]).lstrip("\n"))
    if "index" in found:
        say(f"\n{Recipe.read(found).command()}")
