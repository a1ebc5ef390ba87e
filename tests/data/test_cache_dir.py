from pathlib import Path

from firstspike.support import cache_dir


def test_the_variable_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FIRSTSPIKE_CACHE", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    assert not cache_dir().exists()


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("FIRSTSPIKE_CACHE", "~/spikes")
    assert cache_dir() == Path.home() / "spikes"


def test_without_the_variable_it_is_the_users_cache(monkeypatch):
    monkeypatch.delenv("FIRSTSPIKE_CACHE", raising=False)
    assert cache_dir().is_absolute()
    assert "firstspike" in cache_dir().parts
