"""Signals, forks and pickles. Each test has a process of its own, so that nothing hangs."""

import pickle
import subprocess
import sys

import pytest

import fovea_loader as fovea

# A process that hangs is stopped after so many seconds.
HANGS = 300


def run(program, *arguments):
    # From 3.12 on Python warns of forks where there are threads.
    command = [sys.executable, "-W", "ignore", "-u", "-c", program, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=HANGS)
    return done.stdout


INTERRUPTED = """
import http.server, os, re, signal, sys, threading, time
import fovea_loader as fovea
signal.signal(signal.SIGINT, signal.default_int_handler)
asked, answers = threading.Event(), threading.Event()

class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    log_message = lambda *_: None

    def do_GET(self):
        with open(sys.argv[1] + self.path, "rb") as file:
            content = file.read()
        found = re.fullmatch("bytes=([0-9]+)-([0-9]+)", self.headers.get("Range", ""))
        if self.path.endswith(".arrow"):
            asked.set()
            answers.wait()
        self.send_response(206 if found else 200)
        if found:
            first, last = int(found[1]), min(int(found[2]), len(content) - 1)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            content = content[first : last + 1]
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()

def interrupt():
    asked.wait()
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)

url = "http://127.0.0.1:%d" % server.server_port
loader = fovea.Loader(url, cache=sys.argv[2], batch_size=20, arrays="numpy")
batches = iter(loader)
try:
    # The thread runs, and the server answers, only if the one that waits lets them.
    threading.Thread(target=interrupt, daemon=True).start()
    next(batches)
    print("a batch")
except KeyboardInterrupt:
    print("interrupted")
answers.set()
images, target = next(batches)
print(images.shape, loader.state_dict()["sample_in_epoch"])
"""


def test_control_c_interrupts_the_wait_and_nothing_is_lost(shards, tmp_path):
    size = fovea.Dataset(shards).info["image_size"]
    lines = run(INTERRUPTED, shards, tmp_path / "cache").splitlines()
    assert lines == ["interrupted", f"(20, 3, {size}, {size}) 20"]


FORKED = """
import os, sys
import fovea_loader as fovea
loader = fovea.Loader(sys.argv[1], batch_size=8, arrays="numpy")
batches = iter(loader)
kept = next(batches)
fresh = fovea.Loader(sys.argv[1], batch_size=8, arrays="numpy")
child = os.fork()
if child == 0:
    for at in (batches, iter(loader), iter(fresh)):
        try:
            next(at)
        except RuntimeError as error:
            print(error)
    # What the parent made is dropped here as well, and a loader of its own works.
    del batches, kept, loader, fresh, at
    print("own:", len(list(fovea.Loader(sys.argv[1], batch_size=8, arrays="numpy"))))
    sys.stdout.flush()
    os._exit(0)
print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print("parent:", len(list(batches)))
"""


def test_a_loader_in_a_forked_child_is_an_error_and_no_hang(shards):
    lines = run(FORKED, shards).splitlines()
    for line in lines[:3]:
        assert "belongs to process" in line and "make the loader in the process that uses it" in line
    assert lines[3:] == ["own: 6", "status 0", "parent: 5"]


SILENT = """
import socket, signal, sys, threading, time
import fovea_loader as fovea
signal.signal(signal.SIGINT, signal.default_int_handler)
server = socket.create_server(("127.0.0.1", 0))

def interrupt():
    connection, _ = server.accept()
    connection.recv(1)
    signal.raise_signal(signal.SIGINT)
    # Kept open: nothing is answered.
    threading.Event().wait()

threading.Thread(target=interrupt, daemon=True).start()
began = time.monotonic()
try:
    fovea.Dataset(f"http://127.0.0.1:{server.getsockname()[1]}/data", cache=sys.argv[1], timeout=200)
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - began < 100)
"""


def test_control_c_ends_the_wait_for_a_server_that_is_silent(tmp_path):
    assert run(SILENT, tmp_path) == "interrupted True\n"


ENDED = """
import os, sys
import fovea_loader as fovea
loader = fovea.Loader(sys.argv[1], batch_size=8, arrays="numpy")
batches = iter(loader)
batch = next(batches)
print("end")
"""


def test_a_program_ends_while_its_loader_runs(shards):
    assert run(ENDED, shards) == "end\n"


def test_a_loader_cannot_be_pickled_and_a_data_set_can(make):
    with pytest.raises(TypeError, match="make it in the process that uses it"):
        pickle.dumps(make())
    dataset = fovea.Dataset(make().dataset.path, "val")
    again = pickle.loads(pickle.dumps(dataset))
    assert (again.digest, again.split, len(again)) == (dataset.digest, "val", 20)
    assert (again[3][0] == dataset[3][0]).all()
