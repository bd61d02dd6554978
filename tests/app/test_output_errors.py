"""No space and unwritable places: exit code 4, the path is named, nothing appears under OUT's name."""
import contextlib
import os
import subprocess
import unittest

from halftone_cli import NANO_LLAMA, RESOURCES, SMALL_CALIBRATION, CliTest, main


@contextlib.contextmanager
def small_file_system(folder, options):
    """A tmpfs of its own; the test is skipped where mounting is not allowed."""
    folder.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder],
        capture_output=True, check=False).returncode == 0
    if not mounted:
        raise unittest.SkipTest("mounting a tmpfs needs root and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


class OutputErrors(CliTest):
    def refuse_output(self, fragments, out, *options, ranks=None):
        self.refuse(RESOURCES, fragments, "quantize", "--model", NANO_LLAMA, "--format", "fp8",
                    "--out", out, *SMALL_CALIBRATION, *options, ranks=ranks)
        self.assertFalse(out.exists())

    def test_too_little_space(self):
        with small_file_system(self.folder / "small", "size=1m") as small:
            for ranks in (None, 2):
                self.refuse_output([str(small), "free", "--out"], small / "out",
                                   "--workspace", self.folder / "workspace", "--overwrite",
                                   ranks=ranks)

    def test_space_runs_out_at_the_end(self):
        """The weights of 1.84 MB fit, the tokenizer's files beside them do not."""
        with small_file_system(self.folder / "small", "size=1900k") as small:
            self.refuse_output([str(small), "No space left", "--out"], small / "out",
                               "--workspace", self.folder / "workspace")

    def test_room_for_one_of_two_copies(self):
        """Rank files are made of a unified checkpoint that lies beside them: 1.84 MB each."""
        with small_file_system(self.folder / "small", "size=3m") as small:
            self.refuse_output([str(small), "free", "--out"], small / "out", "--workspace",
                               self.folder / "workspace", "--target", "trtllm", "--tp", 2)
            self.assertEqual(list(small.iterdir()), [])
            self.refuse(RESOURCES, ["free", "--out"], "plan", "--model", NANO_LLAMA, "--format",
                        "fp8", "--out", small / "out", "--workspace", self.folder / "workspace",
                        "--target", "trtllm", "--tp", 2)

    def test_space_runs_out_in_the_workspace(self):
        with small_file_system(self.folder / "small", "size=16k") as small:
            self.refuse_output([str(small)], self.folder / "out", "--workspace", small / "work")

    def test_read_only(self):
        with small_file_system(self.folder / "small", "size=8m") as small:
            subprocess.run(["mount", "-o", "remount,ro", small], check=True)
            for ranks in (None, 2):
                self.refuse_output([str(small), "Read-only", "--out"], small / "out",
                                   "--workspace", self.folder / "workspace", "--overwrite",
                                   ranks=ranks)

    def test_parent_is_a_file(self):
        """Permissions do not bind root; this binds everybody."""
        self.write("file", "")
        for ranks in (None, 2):
            self.refuse_output([str(self.folder / "file"), "--out"], self.folder / "file" / "out",
                               ranks=ranks)

    def test_workspace_is_a_file(self):
        self.write("file", "")
        self.refuse_output([str(self.folder / "file"), "--workspace"], self.folder / "out",
                           "--workspace", self.folder / "file")


if __name__ == "__main__":
    main()
