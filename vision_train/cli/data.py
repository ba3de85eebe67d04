"""``vision-train data``: small data sets to try things on, and the commands that each kind of data adds."""

from __future__ import annotations

import importlib

import typer

VERB_MODULES = ("vision_train.data.toy.verbs", "vision_train.data.bags.verbs")
"""Modules with a function ``add_verbs(data, make)`` that adds commands to the two groups below."""

data = typer.Typer(no_args_is_help=True, help="Make small data sets, and bring data into the formats recipes read.")
make = typer.Typer(no_args_is_help=True, help="Write a small real data set to a folder.")
data.add_typer(make, name="make")

for module in VERB_MODULES:
    importlib.import_module(module).add_verbs(data, make)
