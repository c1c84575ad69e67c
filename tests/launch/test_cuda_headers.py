#!/usr/bin/python3
"""launch/cuda-headers: takes the right headers, refuses wrong ones, leaves nothing half done.

Works offline: a package index of our own, on this machine, serves wheels that are made here to a copy of the
script that knows their digests.
"""

import base64
import hashlib
import http.server
import importlib.util
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KIND = f"py3-none-manylinux_2_27_{os.uname().machine}.whl"
FILES = {  # wheel: path in it -> contents; only what matches include/ is wanted
    "nvidia_one-1.0": {"nvidia/cu13/include/one.h": b"#define ONE 1\n", "nvidia/cu13/lib/one.so": b"\x7fELF" * 999},
    "nvidia_two-2.0": {"nvidia/cu13/include/two.h": b"#define TWO 2\n", "nvidia/cu13/include/sub/in.h": b"int in;\n"},
}
COMPILER = {  # the same, of --nvcc
    "nvidia_cc-3.0": {"nvidia/cu13/bin/nvcc": b"#!/bin/sh\n", "nvidia/cu13/bin/crt/stub": b"", "nvidia/cu13/bin/ptxas": b"no"},
}
TOOLKIT = {  # the same, of --toolkit
    "nvidia_kit-4.0": {
        "nvidia/cu13/include/nccl.h": b"int ncclOne(int); /* ncclTwo() */\n",
        "nvidia/cu13/include/cublasLt.h": b"int cublasLtOne(void);\n",
        "nvidia/cu13/lib/libcudart.so.9": b"the runtime",
        "nvidia/cu13/bin/ptxas": b"#!/bin/sh\n",
    },
}
LIBRARIES = ["libcudart.so.9", "libcudart.so", "libnccl.so.2", "libnccl.so", "libcublasLt.so.13", "libcublasLt.so"]


def sha256(contents):
    return base64.urlsafe_b64encode(hashlib.sha256(contents).digest()).decode().rstrip("=")


def record_of(files):
    """A wheel's list of its files."""
    lines = [f"{path},sha256={sha256(contents)},{len(contents)}\n" for path, contents in files.items()]
    return "".join(lines).encode()


def wheel(files, record):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for path, contents in files.items():
            z.writestr(path, contents)
        if record is not None:
            z.writestr("nvidia.dist-info/RECORD", record)
    return out.getvalue()


def address(port):
    """Of the index, on this machine."""
    return "http:" + f"//127.0.0.1:{port}/simple"


class Index(http.server.BaseHTTPRequestHandler):
    """/simple/NAME/ lists a package's files, which are served in parts."""

    wheels, ranges = {}, True

    def log_message(self, *args):
        pass

    def do_GET(self):
        name = self.path.strip("/").split("/")[-1]
        if self.path.startswith("/simple/"):
            files = [f for f in self.wheels if f.startswith(name.replace("-", "_") + "-")]
            body = "".join(f'<a href="../../files/{f}#sha256=0">{f}</a>\n' for f in files).encode()
            self.answer(200, body, {"Content-Type": "text/html"})
        elif name not in self.wheels:
            self.answer(404, b"", {})
        elif not self.ranges:
            self.answer(200, self.wheels[name], {})
        else:
            whole = self.wheels[name]
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
            part = whole[first : last + 1]
            end = first + len(part) - 1
            self.answer(206, part, {"Content-Range": f"bytes {first}-{end}/{len(whole)}"})

    def answer(self, code, body, headers):
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


class Bench:
    """A folder with the script, an index that serves, and what went wrong so far."""

    def __init__(self, folder, port):
        self.folder, self.url, self.failed = folder, address(port), 0
        self.script = os.path.join(folder, "cuda-headers")
        with open(os.path.join(ROOT, "launch", "cuda-headers"), encoding="utf-8") as f:
            text = f.read()
        for table, all_files, wanted in (
            ("WHEELS", FILES, r".*/include/.*[.]h"),
            ("COMPILER", COMPILER, r".*/cu13/bin/(nvcc|crt/.*)"),
            ("TOOLKIT", TOOLKIT, r".*/cu13/.*"),
        ):
            known = {name: (hashlib.sha256(record_of(files)).hexdigest(), wanted) for name, files in all_files.items()}
            ours = f"{table} = {known!r}".replace("\\", r"\\")
            text, n = re.subn(rf"^{table} = \{{.*?^\}}", ours, text, count=1, flags=re.S | re.M)
            assert n == 1, f"launch/cuda-headers has no table {table}"
        with open(self.script, "w", encoding="utf-8") as f:
            f.write(text)

    def serve(self, change=None, records=None, ranges=True):
        """Right wheels, but for some contents (path -> bytes) or a wheel's whole list."""
        Index.ranges, Index.wheels = ranges, {}
        for name, files in {**FILES, **COMPILER, **TOOLKIT}.items():
            record = (records or {}).get(name, record_of(files))
            served = {path: (change or {}).get(path, contents) for path, contents in files.items()}
            Index.wheels[f"{name}-{KIND}"] = wheel(served, record)
            Index.wheels[f"{name}-py3-none-win_amd64.whl"] = b"another system's"

    def expect(self, what, code, told, left=(), arguments=()):
        """Run it: its exit code, its one line, and the files that are there afterwards."""
        done = subprocess.run(
            [sys.executable, self.script, *arguments, os.path.join(self.folder, "out", "cuda")],
            env={**os.environ, "PIP_INDEX_URL": self.url, "no_proxy": "127.0.0.1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        out = os.path.join(self.folder, "out")
        found = self.seen()
        line = done.stderr.count("\n") == (1 if code else 0) and "Traceback" not in done.stderr
        ok = done.returncode == code and told in done.stderr and line and sorted(found) == sorted(left)
        ok = ok and (left or code == 2 or not os.path.exists(out) or not os.listdir(out))
        print(f"{'ok  ' if ok else 'FAIL'} {what}" + ("" if ok else f": exit {done.returncode}, {done.stderr}, {found}"))
        self.failed += not ok

    def cases(self):
        one, two = FILES
        whole = [f"cuda/{f}" for f in ("one.h", "two.h", "sub/in.h", ".complete")]
        self.serve(records={two: record_of({"nvidia/cu13/include/two.h": b"other"})})
        self.expect("a list of files with another digest", 1, f"{two}: its list of files is not the expected one")
        self.serve(change={"nvidia/cu13/include/sub/in.h": b"int out;\n"})
        self.expect("a header that the list does not know", 1, "sub/in.h is not what the wheel's list says")
        self.serve(records={one: b""})
        self.expect("an empty list", 1, f"{one}: its list of files is not the expected one")
        self.serve()
        Index.wheels[f"{one}-{KIND}"] = wheel(FILES[one], None)
        self.expect("a wheel without its list", 1, f"{one}: has no list of its files")
        Index.wheels[f"{one}-{KIND}"] = b"<html>no such thing</html>"
        self.expect("no wheel at all", 1, "error: ")
        del Index.wheels[f"{one}-{KIND}"]
        self.expect("none for this machine", 1, f"the package index has no {one} for {os.uname().machine}")
        self.serve(ranges=False)
        self.expect("an index that serves whole files only", 1, "does not serve parts of a file")
        url, self.url = self.url, address(1)
        self.expect("nobody there", 1, "error: ")
        self.url = url
        self.serve()
        self.expect("the compiler", 0, "", [f"cuda/{f}" for f in ("bin/nvcc", "bin/crt/stub", ".complete")], ["--nvcc"])
        self.failed += not os.access(os.path.join(self.folder, "out", "cuda", "bin", "nvcc"), os.X_OK)
        kit = [*(f"include/{f}" for f in ("nccl.h", "cublasLt.h")), *(f"lib/{f}" for f in LIBRARIES), "bin/ptxas", ".complete"]
        self.expect("all to build with", 0, "", [f"cuda/{f}" for f in kit], ["--toolkit"])
        stand_in = os.path.join(self.folder, "out", "cuda", "lib64", "libnccl.so")
        said = subprocess.run(["readelf", "-d", "--dyn-syms", stand_in], capture_output=True, text=True, check=True).stdout
        self.failed += "[libnccl.so.2]" not in said or "ncclOne" not in said
        self.expect("the right ones", 0, "", whole)
        with open(os.path.join(self.folder, "out", "cuda", "sub", "in.h"), "rb") as f:
            self.failed += f.read() != b"int in;\n"
        self.serve(change={"nvidia/cu13/include/one.h": b"changed"})
        self.expect("a complete folder is left alone", 0, "", whole)
        stamp = os.path.join(self.folder, "out", "cuda", ".complete")
        with open(stamp, "w", encoding="utf-8") as f:
            f.write("nvidia_one-0.9 nvidia_two-2.0")
        self.expect("another version stays as it is until the new one is whole", 1, "one.h is not what", whole)
        self.serve()
        self.expect("and is replaced then", 0, "", whole)
        self.strangers(stamp, [f for f in whole if f != "cuda/.complete"])

    def strangers(self, stamp, headers):
        """What the script did not make it does not touch."""
        cuda = os.path.dirname(stamp)
        os.remove(stamp)
        self.expect("a folder without the mark", 2, "was not made here", headers)
        with open(stamp, "w", encoding="utf-8") as f:
            f.write("done")
        self.expect("another program's mark", 2, "was not made here", [*headers, "cuda/.complete"])
        with open(stamp, "w", encoding="utf-8") as f:
            f.write("nvidia_one-0.9")
        os.rename(cuda, os.path.join(self.folder, "mine"))
        os.symlink(os.path.join(self.folder, "mine"), cuda)
        self.expect("a link to a folder", 2, "was not made here", self.seen())
        self.failed += not os.path.exists(os.path.join(self.folder, "mine", "one.h"))
        for flag, code in (("--help", 0), ("--verbose", 2), ("--nvcc", 2), ("--toolkit", 2), ("", 2)):
            done = subprocess.run([sys.executable, self.script, flag], cwd=self.folder, capture_output=True, check=False)
            ok = done.returncode == code and not os.path.exists(os.path.join(self.folder, flag or "--"))
            print(f"{'ok  ' if ok else 'FAIL'} '{flag}': exit {done.returncode}")
            self.failed += not ok

    def seen(self):
        out = os.path.join(self.folder, "out")
        return [os.path.relpath(os.path.join(d, f), out) for d, _, files in os.walk(out) for f in files]


def main():
    if importlib.util.find_spec("pip") is None:
        print("skipped: python3-pip is not installed")
        sys.exit(77)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="swt-headers-") as folder:
        bench = Bench(folder, server.server_address[1])
        bench.cases()
    server.shutdown()
    sys.exit(1 if bench.failed else 0)


main()
