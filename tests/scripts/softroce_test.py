# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""scripts/softroce itself.

  softroce_test.py Calls    what it refuses; needs no guest
  softroce_test.py Guest    what it promises of a guest; exit status 77 where none can be had
"""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

SOFTROCE = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "softroce"


def softroce(*arguments, env=None, cwd=None):
    own = {name: value for name, value in os.environ.items() if name != "PENSTOCK_VERBS_TESTS"}
    return subprocess.run([SOFTROCE, *arguments], env={**own, **(env or {})}, cwd=cwd, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=120)


def processes_that_mention(text):
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


class Calls(unittest.TestCase):
    def expect_refusal(self, named, *arguments, env=None):
        done = softroce(*arguments, env=env)
        self.assertEqual((done.returncode, done.stdout), (64, ""), done.stderr)
        self.assertIn(named, done.stderr)

    def test_a_wrong_call_is_refused_and_named(self):
        self.expect_refusal("--frobnicate", "--frobnicate", "--", "true")
        self.expect_refusal("no command", "--net", "one")
        self.expect_refusal("no command", "--")
        self.expect_refusal("'ring'", "--net", "ring", "--", "true")
        self.expect_refusal('"lots"', "--memory", "lots", "--", "true")
        self.expect_refusal('"-1"', "--timeout=-1", "--", "true")
        self.expect_refusal('"0"', "--timeout", "0", "--", "true")
        self.expect_refusal('"/nowhere"', "--work", "/nowhere", "--", "true")
        self.expect_refusal('"/proc"', "--work", "/proc", "--", "true")
        self.expect_refusal("PENSTOCK_VERBS_TESTS", "--", "true",
                            env={"PENSTOCK_VERBS_TESTS": "carrier-pigeon"})

    def test_without_a_kernel_it_says_how_to_get_one(self):
        with tempfile.TemporaryDirectory() as empty:
            done = softroce("--backend", "uml", "--", "true", env={"PENSTOCK_CACHE_DIR": empty})
        self.assertEqual((done.returncode, done.stdout), (77, ""))
        self.assertRegex(done.stderr, "^SKIP: .*--prepare")

    def test_the_cable_exists_only_in_a_guest(self):
        done = softroce("--backend", "host", "--net", "pair", "--", "true")
        self.assertEqual(done.returncode, 77)
        self.assertRegex(done.stderr, "^SKIP: .*cable")

    def test_on_the_host_the_command_runs_with_the_named_devices(self):
        done = softroce("--", "sh", "-c", "echo $PENSTOCK_RDMA_DEVICES $PENSTOCK_VERBS_TESTS; exit 3",
                        env={"PENSTOCK_VERBS_TESTS": "host", "PENSTOCK_RDMA_DEVICES": "mlx5_0",
                             "PENSTOCK_RDMA_ADDRESSES": "192.0.2.1"})
        self.assertEqual((done.returncode, done.stdout), (3, "mlx5_0 host\n"), done.stderr)


class Guest(unittest.TestCase):
    def test_status_and_both_outputs_come_back(self):
        done = softroce("--", "sh", "-c", 'seq 1 50000; echo "$1" >&2; exit 7', "sh", "it's \"so\"")
        self.assertEqual(done.returncode, 7)
        self.assertEqual(done.stdout, "".join(f"{i}\n" for i in range(1, 50001)))
        self.assertEqual(done.stderr, "it's \"so\"\n")

    def test_keeps_folder_and_environment_and_only_what_is_below_work(self):
        with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as lost:
            done = softroce("--work", kept, "--", "sh", "-c",
                            f'echo "$GREETING"; pwd; echo 1 >{kept}/a; echo 2 >{lost}/b',
                            env={"GREETING": "two  words\nand a line"}, cwd=lost)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual(done.stdout, f"two  words\nand a line\n{lost}\n")
            self.assertEqual(pathlib.Path(kept, "a").read_text(), "1\n")
            self.assertEqual(os.listdir(lost), [])

    def test_a_guest_out_of_time_is_ended(self):
        with tempfile.TemporaryDirectory() as run:
            done = softroce("--timeout", "4", "--", "sleep", "60", env={"TMPDIR": run})
            self.assertEqual(done.returncode, 124)
            self.assertEqual(done.stderr, "softroce: no end after 4 s\n")
            self.assertEqual((processes_that_mention(run), os.listdir(run)), ([], []))

    def test_a_guest_that_panics_says_so(self):
        done = softroce("--", "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 60")
        self.assertEqual(done.returncode, 125)
        self.assertIn("the guest broke", done.stderr)
        self.assertIn("Kernel panic", done.stderr)

    def test_a_killed_launcher_takes_its_guest_along(self):
        with tempfile.TemporaryDirectory() as run:
            with subprocess.Popen([SOFTROCE, "--backend", "uml", "--", "sh", "-c", "echo up; sleep 60"],
                                  env={**os.environ, "TMPDIR": run}, stdout=subprocess.PIPE,
                                  text=True) as launcher:
                self.assertEqual(launcher.stdout.readline(), "up\n")
                self.assertNotEqual(processes_that_mention(run), [])
                launcher.send_signal(signal.SIGKILL)
                launcher.wait()
                # The guest holds the pipe: its end is the end of the output.
                self.assertEqual(launcher.stdout.read(), "")
            deadline = time.monotonic() + 20
            while processes_that_mention(run) and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertEqual(processes_that_mention(run), [])


def main():
    if sys.argv[1:] == ["Guest"]:
        probe = softroce("--backend", "uml", "--", "true")
        if probe.returncode == 77:
            print(probe.stderr, end="")
            return 77
    return 0 if unittest.main(exit=False, verbosity=2).result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
