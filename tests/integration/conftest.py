"""Fixtures of the integration tests."""
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from proxy import Proxy  # noqa: E402
from upstream import Upstream  # noqa: E402

# Whoever runs the tests in the background may have had SIGINT ignored, and programs that are
# started here would inherit that; some tests interrupt them.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def upstream():
    """One for each test: what an earlier test's proxy sent last is not counted here."""
    service = Upstream()
    yield service
    service.stop()


@pytest.fixture
def start(tmp_path_factory, upstream):
    """start(config="", ...) starts a proxy in front of `upstream`, exact tier only unless told
    otherwise; all are stopped at the end, and must stop in peace."""
    running = []

    def begin(config="", model="none", upstreams=None, folder=None, **arguments):
        text = "encoder: { model: %s }\nupstreams: %s\n%s" % (
            model, upstreams or "[ { name: test, url: %s } ]" % upstream.url, config)
        proxy = Proxy(folder or tmp_path_factory.mktemp("proxy"), text, **arguments)
        running.append(proxy)
        return proxy

    yield begin
    upstream.gate.set()
    for proxy in running:
        proxy.stop()


@pytest.fixture
def proxy(start):
    """The usual one, whose default key the upstream has accepted."""
    server = start()
    server.accept()
    return server


@pytest.fixture(scope="session")
def encoder():
    """The folder of the real encoder."""
    folder = os.environ.get("REPRISE_TEST_MODEL")
    if not folder:
        if os.environ.get("REPRISE_REQUIRE_MODEL") == "1":
            pytest.fail("REPRISE_TEST_MODEL is not set")
        pytest.skip("REPRISE_TEST_MODEL is not set")
    return folder
