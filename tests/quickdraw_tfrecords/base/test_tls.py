"""Stores by https: certificates that are trusted, and those that are not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quickdraw_tfrecords.base.stores import open_store
from tests.certificates import Authority
from tests.faulty_proxy import FaultyProxy
from tests.object_store import ObjectStore, WebServer

# Small and large ranges are read in different ways.
PROGRAM = """
import sys
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.stores import open_store
for size in (3, 2**18):
    try:
        print(len(open_store(sys.argv[1]).read("a", 0, size)))
    except DataError as error:
        print(error)
"""
CONTENT = bytes(2**18)
DISTRUSTED = [
    ({}, "unable to get local issuer certificate"),
    ({"days": -1}, "certificate has expired"),
    ({"address": "127.0.0.2"}, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def read(url: str, **environment: str) -> list[str]:
    """What a process says that reads an object."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    env.pop("AWS_CA_BUNDLE", None)  # which would come before the file
    env.update(environment)
    command = [sys.executable, "-c", PROGRAM, url]
    output = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    return output.splitlines()


def expect_refusal(url: str, proxy: FaultyProxy, why: str, setting: str, **environment: str):
    lines = read(url, **environment)
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"{url}/a: its certificate is refused (")
        assert why in line
        assert line.endswith(f"; {setting} names the file of the authorities that are trusted")
    assert not proxy.requests
    assert len(proxy.connections) == 2  # it would not be another one the next time


def test_a_web_server(web_server: WebServer, authority: Authority):
    (web_server.folder / "a").write_bytes(CONTENT)
    proxy = FaultyProxy(web_server.proxy.target, tls=authority.context())
    assert read(proxy.url, SSL_CERT_FILE=str(authority.path)) == ["3", "262144"]


@pytest.mark.parametrize(("given", "why"), DISTRUSTED)
def test_a_web_server_that_is_not_trusted(
    web_server: WebServer, authority: Authority, given: dict, why: str
):
    proxy = FaultyProxy(web_server.proxy.target, tls=authority.context(**given))
    trust = {} if "issuer" in why else {"SSL_CERT_FILE": str(authority.path)}
    expect_refusal(proxy.url, proxy, why, "SSL_CERT_FILE", **trust)


@pytest.mark.parametrize("setting", ["environment", "file"])
def test_a_bucket(object_store: ObjectStore, authority: Authority, tmp_path: Path, setting: str):
    open_store(object_store.url).write("a", CONTENT)
    proxy = FaultyProxy(object_store.proxy.target, tls=authority.context())
    trust = {"AWS_CA_BUNDLE": str(authority.path)}
    if setting == "file":
        (tmp_path / "config").write_text(f"[default]\nca_bundle = {authority.path}\n")
        trust = {"AWS_CONFIG_FILE": str(tmp_path / "config")}
    trust["AWS_ENDPOINT_URL"] = proxy.url
    assert read(object_store.url, **trust) == ["3", "262144"]


@pytest.mark.slow
@pytest.mark.parametrize(("given", "why"), DISTRUSTED)
def test_a_bucket_that_is_not_trusted(
    object_store: ObjectStore, authority: Authority, given: dict, why: str
):
    proxy = FaultyProxy(object_store.proxy.target, tls=authority.context(**given))
    trust = {} if "issuer" in why else {"AWS_CA_BUNDLE": str(authority.path)}
    trust["AWS_ENDPOINT_URL"] = proxy.url
    expect_refusal(object_store.url, proxy, why, "AWS_CA_BUNDLE", **trust)
