from builder.lease import Lease, Part


def test_the_report_is_rebuilt_from_the_folder_alone(flat, photos, tmp_path, toffee):
    built = toffee("build", "--recipe", flat("recipe"), "--subjects", photos, "--pairs", 8)
    assert built.returncode == 0, built.stderr
    card = (tmp_path / "toffee" / "README.md").read_bytes()
    (tmp_path / "toffee" / "README.md").unlink()
    stray = tmp_path / "toffee" / "generation" / "train-00000000-00000.parquet"
    stray.write_bytes(b"half")
    done = toffee("report", "toffee")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "toffee" / "README.md").read_bytes() == card
    assert not stray.exists()


def test_a_report_holds_the_folder(flat, photos, tmp_path, toffee):
    assert toffee("build", "--recipe", flat("recipe"), "--subjects", photos, "--pairs", 4).returncode == 0
    with Lease(tmp_path / "toffee", "report", Part()):
        done = toffee("report", "toffee")
    assert (done.returncode, "in use by process" in done.stderr) == (2, True)
    assert toffee("report", "toffee").returncode == 0
