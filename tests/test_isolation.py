"""The promises of conftest.py that every other test relies on without noticing."""

from __future__ import annotations

import os
import socket
import tempfile
import urllib.request
from pathlib import Path

import pytest
import torch

from uniwhisper.files import home


def test_home_is_a_temporary_folder() -> None:
    assert home() == Path(os.environ["UNIWHISPER_HOME"]).resolve()
    assert home().is_relative_to(Path(tempfile.gettempdir()).resolve())


def test_network_is_out_of_reach() -> None:
    with socket.socket() as outside, pytest.raises(RuntimeError, match="must not use the network"):
        outside.connect(("192.0.2.1", 80))  # an address that no machine has (RFC 5737)
    with pytest.raises(RuntimeError, match=r"must not use the network, found a lookup of 'example\.invalid'"):
        urllib.request.urlopen("http://example.invalid", timeout=1)


def test_this_machine_is_in_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass


def test_sums_run_in_one_order() -> None:
    assert torch.get_num_threads() == 1
