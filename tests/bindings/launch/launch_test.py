# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""penstock launch --local: what processes are told, and how jobs end. The programs are shells."""
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

PENSTOCK = os.environ["PENSTOCK"]
GOOD, FAILED, TIMEOUT, USAGE = 0, 1, 4, 64


def launch(script, *options):
    return subprocess.run(command(script, *options), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60, check=False)


def command(script, *options):
    return [PENSTOCK, "launch", "--local", *map(str, options), "--", "sh", "-c", script]


class Launch(unittest.TestCase):
    def test_every_process_knows_its_place(self):
        done = launch('echo "$DMLC_ROLE $DMLC_RANK of $DMLC_NUM_WORKER+$DMLC_NUM_SERVER '
                      'at $DMLC_PS_ROOT_URI"', "--workers", 2, "--servers", 3)
        self.assertEqual(done.returncode, GOOD, done.stderr)
        ranked = [f"{role} {rank}" for role, count in (("server", 3), ("worker", 2))
                  for rank in range(count)]
        self.assertEqual(
            sorted(done.stdout.splitlines()),
            sorted(["[scheduler] scheduler  of 2+3 at 127.0.0.1"]
                   + [f"[{name}] {name} of 2+3 at 127.0.0.1" for name in ranked]))
        self.assertEqual(done.stderr, "")

    def test_joint_processes_are_both(self):
        done = launch('echo "$DMLC_ROLE $DMLC_NUM_WORKER $DMLC_NUM_SERVER"', "--joint", 2)
        self.assertEqual(done.stdout.count("joint 2 2"), 2, done.stdout + done.stderr)

    def test_all_share_one_port_and_one_secret_that_goes_with_the_job(self):
        done = launch('echo "$DMLC_PS_ROOT_PORT $PENSTOCK_SECRET_FILE '
                      '$(stat -c %a $PENSTOCK_SECRET_FILE) $(cat $PENSTOCK_SECRET_FILE)"')
        told = {line.split("] ")[1] for line in done.stdout.splitlines()}
        self.assertEqual(len(told), 1, told)
        _, secret_file, mode, secret = told.pop().split()
        self.assertEqual(mode, "600")
        self.assertEqual(len(secret), 64)
        self.assertFalse(os.path.exists(secret_file))

    def test_one_failure_fails_the_job_and_is_named(self):
        done = launch('[ "$DMLC_ROLE $DMLC_RANK" != "worker 1" ] || exit 7', "--workers", 2)
        self.assertEqual(done.returncode, FAILED)
        self.assertIn("worker 1: exit code 7", done.stderr)

    def test_a_killed_process_is_named_with_its_signal(self):
        done = launch('[ $DMLC_ROLE != server ] || kill -9 $$')
        self.assertEqual(done.returncode, FAILED)
        self.assertIn("server 0: killed by signal 9", done.stderr)

    def test_the_others_end_soon_after_a_failure(self):
        begin = time.monotonic()
        done = launch('[ $DMLC_ROLE != server ] || exit 1; sleep 50', "--grace", 0.2)
        self.assertLess(time.monotonic() - begin, 30)
        self.assertEqual(done.returncode, FAILED)
        self.assertIn("worker 0: was still running", done.stderr)

    def test_the_time_limit_ends_everything_also_what_ignores_it(self):
        with tempfile.TemporaryDirectory() as folder:
            pids = pathlib.Path(folder, "pids")
            done = launch(f'trap "" TERM; sleep 47 & echo $! >> {pids}; wait; sleep 48',
                          "--timeout", 0.5)
            self.assertEqual(done.returncode, TIMEOUT, done.stderr)
            self.assertIn("took too long", done.stderr)
            for pid in pids.read_text(encoding="ascii").split():
                self.assert_gone(int(pid))

    def test_a_signal_to_the_launcher_ends_the_job(self):
        with subprocess.Popen(command("echo up; sleep 50"), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as job:
            for _ in range(3):
                job.stdout.readline()
            job.send_signal(signal.SIGTERM)
            _, said = job.communicate(timeout=30)
        self.assertEqual(job.returncode, FAILED)
        self.assertIn("signal 15", said)

    def test_lines_stay_whole(self):
        done = launch('for i in 1 2 3 4 5 6 7 8 9; do printf a; printf "b$i\\n"; done; printf end',
                      "--workers", 4)
        lines = [line.split("] ")[1] for line in done.stdout.splitlines()]
        self.assertEqual(sorted(set(lines)), [f"ab{i}" for i in range(1, 10)] + ["end"])
        self.assertEqual(len(lines), 6 * 10)

    def test_wrong_calls(self):
        for options, said in ((["--workers", 0], "--workers"), (["--timeout", "x"], "--timeout"),
                              (["--joint", 2, "--servers", 1], "excludes")):
            done = launch("true", *options)
            self.assertEqual(done.returncode, USAGE, done.stderr)
            self.assertIn(said, done.stderr)
        done = subprocess.run([PENSTOCK, "launch", "--local", "--", "no-such-program"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, FAILED)
        self.assertIn("cannot run no-such-program", done.stderr)

    def assert_gone(self, pid):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.01)
        self.fail(f"process {pid} lives on")


if __name__ == "__main__":
    unittest.main()
