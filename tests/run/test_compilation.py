"""Where compiled programs are kept, and where not."""

import jax
import pytest

from ssah_jax.run import compilation

SMALLEST = (
    "persistent_cache_min_compile_time_secs",
    "persistent_cache_min_entry_size_bytes",
)


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """A home of its own, and JAX's settings as they are without any tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = ("enable_compilation_cache", "compilation_cache_dir")
    names += ("compilation_cache_max_size", *SMALLEST)
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", None)
    for name in SMALLEST:
        jax.config.update(f"jax_{name}", 7)
        monkeypatch.delenv(f"JAX_{name.upper()}", raising=False)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_commands_keep_what_they_compile_in_the_users_cache(settings, tmp_path):
    compilation.keep_compiled()
    path = compilation.cache_directory()
    assert jax.config.jax_compilation_cache_dir == str(path)
    assert path.is_dir() and path.is_relative_to(tmp_path / "ssah_jax")
    assert path.stat().st_mode & 0o777 == 0o700


def test_small_programs_are_kept_too(settings, monkeypatch):
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "7")
    compilation.keep_compiled()
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
    # Unless the user says what is worth keeping.
    assert jax.config.jax_persistent_cache_min_entry_size_bytes == 7


def test_a_user_who_chose_a_directory_or_none_has_it(settings, tmp_path):
    jax.config.update("jax_compilation_cache_dir", "elsewhere")
    compilation.keep_compiled()
    assert jax.config.jax_compilation_cache_dir == "elsewhere"
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    compilation.keep_compiled()
    assert jax.config.jax_compilation_cache_dir is None
    assert list(tmp_path.iterdir()) == []


def test_no_home_is_no_error(settings, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    compilation.keep_compiled()
    assert jax.config.jax_compilation_cache_dir is None
