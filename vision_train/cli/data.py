"""``vision-train data``: small data sets to try things on, and the commands that each kind of data adds."""

from __future__ import annotations

import importlib

import typer

from vision_train.tasks import kinds_of_data

data = typer.Typer(no_args_is_help=True, help="Make small data sets, and bring data into the formats recipes read.")
make = typer.Typer(no_args_is_help=True, help="Write a small real data set to a folder.")
data.add_typer(make, name="make")

for kind in kinds_of_data():
    if kind.verbs is not None:
        importlib.import_module(kind.verbs).add_verbs(data, make)
