"""The table of options, against what CRIU 4.2 has."""

from __future__ import annotations

import re

import pytest

from engine import option_values as values
from engine.option import NONE, OPTIONAL, OptionError
from engine.options import COMMANDS, OPTIONS, Options

# getopt_long's short option string of CRIU 4.2: one colon, argument; two colons, optional argument.
SHORT = "dSsRt:hD:o:v::x::Vr:jJ:lW:L:M:"
COUNT = 85
OURS = {"dry-run", "snapshot", "remote", "snapshot-id", "remote-socket", "remote-timeout", "max-memory", "unconfirmed"}


def test_there_are_as_many_options_as_criu_has() -> None:
    assert len(OPTIONS.keys() - OURS) == COUNT


def test_letters_are_those_of_criu() -> None:
    colons = {NONE: "", OPTIONAL: "::"}
    ours = {option.short + colons.get(option.arg, ":") for option in OPTIONS.values() if option.short}
    theirs = set(re.findall("[a-zA-Z]:*", SHORT))
    assert ours == theirs


def test_every_option_is_for_known_commands_and_says_what_it_does() -> None:
    for option in OPTIONS.values():
        assert option.commands, option.name
        assert set(option.commands) <= set(COMMANDS), option.name
        assert option.meaning, option.name
        assert bool(option.metavar) == (option.arg != NONE), option.name


def test_defaults_are_not_shared_between_runs() -> None:
    Options().external.append("x")
    assert Options().external == []


def test_values_have_their_defaults() -> None:
    opts = Options()
    assert (opts.images_dir, opts.work_dir, opts.verbosity, opts.timeout) == (".", None, 2, 10)
    assert (opts.ghost_limit, opts.network_lock, opts.manage_cgroups) == (1 << 20, "iptables", "soft")
    assert (opts.tree, opts.status_fd, opts.ps_socket, opts.ghost_fiemap) == (None, -1, -1, True)
    assert opts.given == set()


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("17", 17), ("4K", 4096), ("4k", 4096), ("2M", 2 << 20), ("1G", 1 << 30)]
)
def test_sizes_have_suffixes(text: str, size: int) -> None:
    assert values.size(text) == size


@pytest.mark.parametrize("text", ["", "K", "-1", "1T", "1.5M", "0x10", "1 K", "٣"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        values.size(text)


def test_a_bad_value_names_option_and_reason() -> None:
    with pytest.raises(OptionError) as caught:
        Options().use(OPTIONS["tree"], "0")
    assert caught.value.message == "--tree 0: must be a process id above 0"
    assert caught.value.cr_errno == 56


@pytest.mark.parametrize(
    ("old", "text", "new"), [(2, None, 3), (2, "v", 4), (2, "vvv", 6), (2, "4", 4), (4, "0", 0), (0, None, 1)]
)
def test_verbosity(old: int, text: str | None, new: int) -> None:
    assert values.verbosity(old, text) == new


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([None], 7 | 8),
        (["cpu"], 7 | 8),
        (["none"], 0),
        (["none,ins"], 4),
        (["^fpu"], 4 | 8),
        (["all,^cpu"], 5 | 8),
        (["^all", "cpu"], 2 | 8),
    ],
)
def test_cpu_cap_words_add_to_the_default(texts: list[str | None], expected: int) -> None:
    opts = Options()
    for text in texts:
        opts.use(OPTIONS["cpu-cap"], text)
    assert opts.cpu_cap == expected


def test_older_spellings_end_up_in_external() -> None:
    opts = Options()
    opts.use(OPTIONS["veth-pair"], "eth0=host0")
    opts.use(OPTIONS["ext-mount-map"], "/data:data")
    opts.use(OPTIONS["ext-mount-map"], "auto")
    opts.use(OPTIONS["external"], "tty[8800:5]")
    assert opts.external == ["veth[eth0]:host0", "mnt[/data]:data", "mnt[]", "tty[8800:5]"]


def test_join_ns() -> None:
    assert values.join_ns("net:/run/netns/a") == ("net", "/run/netns/a", "")
    assert values.join_ns("user:12,0,5") == ("user", "12", "0,5")
    for bad in ("pid:1", "cgroup:1", "net", "net:", "net:1,extra"):
        with pytest.raises(ValueError):
            values.join_ns(bad)


def test_inherit_fd() -> None:
    assert values.inherit_fd([], "fd[3]:pipe:[77]") == [(3, "pipe:[77]")]
    for bad in ("fd3:x", "fd[x]:y", "fd[3]", "fd[3]:", "[3]:x"):
        with pytest.raises(ValueError):
            values.inherit_fd([], bad)


def test_cgroup_root() -> None:
    assert values.cgroup_root("/a/b") == ("", "/a/b")
    assert values.cgroup_root("cpu,cpuacct:/a") == ("cpu,cpuacct", "/a")
    for bad in ("a", "cpu:", "cpu/a"):
        with pytest.raises(ValueError):
            values.cgroup_root(bad)


def test_external_unix_peers() -> None:
    opts = Options()
    assert not opts.allows_external_peer(5)
    opts.use(OPTIONS["ext-unix-sk"], "5,6")
    assert opts.allows_external_peer(5)
    assert not opts.allows_external_peer(7)
    any_peer = Options()
    any_peer.use(OPTIONS["ext-unix-sk"], None)
    assert any_peer.allows_external_peer(7)


def test_network_lock_none_is_another_word_for_skip() -> None:
    assert values.network_lock("none") == "skip"


def test_port_is_cut_to_16_bits() -> None:
    assert values.port("65537") == 1
