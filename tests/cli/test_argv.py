"""The command line by getopt_long's rules, and what options demand of each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.argv import apply, check, find, parse, split
from engine.errors import Refused
from engine.option import NONE, OPTIONAL, REQUIRED, Option, OptionError
from engine.options import OPTIONS, Options


@pytest.fixture(autouse=True)
def _no_config_files(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr("engine.config.SYSTEM_FILE", "/nonexistent/default.conf")
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.delenv("CRIU_CONFIG_FILE", raising=False)


def use(args: str) -> Options:
    """Options from words, unchecked."""
    opts = Options()
    uses, opts.words = split(args.split())
    for one in uses:
        apply(opts, one)
    return opts


def reasons(args: str) -> list[str]:
    with pytest.raises(Refused) as caught:
        parse(args.split())
    return caught.value.reasons


def test_long_options_take_their_argument_from_the_word_or_the_next() -> None:
    assert use("--images-dir=/a").images_dir == "/a"
    assert use("--images-dir /a").images_dir == "/a"
    assert use("--images-dir=").images_dir == ""
    assert use("--external a=b=c").external == ["a=b=c"]


def test_letters_share_a_dash() -> None:
    opts = use("-jlRD /a -o- dump")
    assert (opts.shell_job, opts.file_locks, opts.leave_running) == (True, True, True)
    assert (opts.images_dir, opts.log_file, opts.words) == ("/a", "-", ["dump"])


def test_optional_arguments_are_in_the_same_word_only() -> None:
    opts = use("-x 5 -v 4 --manage-cgroups full")
    assert (opts.ext_unix_sk, opts.verbosity, opts.manage_cgroups) == (frozenset(), 3, "soft")
    assert opts.words == ["5", "4", "full"]
    assert use("-x5,6").ext_unix_sk == {5, 6}
    assert use("--manage-cgroups=full").manage_cgroups == "full"


@pytest.mark.parametrize(
    ("args", "level"), [("-v", 3), ("-vv", 4), ("-v -v", 4), ("-vvvv", 6), ("-v4", 4), ("-v0 -v", 1), ("-jv4", 4)]
)
def test_v_counts_or_sets(args: str, level: int) -> None:
    assert use(args).verbosity == level


def test_a_unique_beginning_is_enough() -> None:
    assert use("--leave-r").leave_running
    assert find("no-all") == (OPTIONS["allow-uprobes"], True)
    assert find("all") == (OPTIONS["all"], False)


def test_a_beginning_of_several_is_refused_with_all_of_them() -> None:
    with pytest.raises(OptionError, match="--leave-running, --leave-stopped"):
        find("leave-")


@pytest.mark.parametrize("args", ["--nonsense", "-Z", "--=x", "--no-tree"])
def test_unknown_options(args: str) -> None:
    with pytest.raises(OptionError, match="unknown option"):
        split([args])


@pytest.mark.parametrize("args", ["--tree", "-D", "-jD", "--tcp-close=1", "--no-tcp-close=1"])
def test_arguments_too_few_or_too_many(args: str) -> None:
    with pytest.raises(OptionError, match="argument"):
        split([args])


def test_a_dash_alone_is_a_word() -> None:
    assert use("-").words == ["-"]


def test_the_later_of_stopped_and_running_wins() -> None:
    first, second = use("-s -R"), use("-R -s")
    assert (first.leave_stopped, first.leave_running) == (False, True)
    assert (second.leave_stopped, second.leave_running) == (True, False)


def test_daemon_and_restore_detached_are_one_value() -> None:
    assert use("-d").restore_detached
    assert use("--daemon").restore_detached
    assert not use("-d --no-daemon").restore_detached


def test_all_means_extra_and_experimental() -> None:
    opts = use("--all")
    assert (opts.extra, opts.experimental) == (True, True)


def test_negation() -> None:
    assert use("--no-ghost-fiemap").ghost_fiemap is False
    assert use("--tcp-established --no-tcp-established").tcp_established is False


def test_options_may_follow_the_command() -> None:
    opts = parse("dump -t 5 --leave-running".split())
    assert (opts.command, opts.tree, opts.leave_running) == ("dump", 5, True)


def test_exec_cmd_takes_the_words_after_the_dashes() -> None:
    opts = parse("restore --exec-cmd -D /a -- prog -d --all".split())
    assert opts.exec_cmd == ["prog", "-d", "--all"]
    assert not opts.restore_detached


def test_cpuinfo_and_swrk_have_a_word_of_their_own() -> None:
    assert parse(["cpuinfo", "dump"]).words == ["dump"]
    assert parse(["swrk", "3"]).words == ["3"]
    assert reasons("cpuinfo") == ["cpuinfo needs one of the words dump and check"]
    assert reasons("swrk x") == ["swrk needs the number of a connected socket"]


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ("", "no command given (see --help)"),
        ("dump", "dump needs the root of the process tree (use --tree PID)"),
        ("pre-dump -t 5 --lazy-pages", "pre-dump does not work with --lazy-pages"),
        (
            "page-server --lazy-pages",
            "page-server --lazy-pages: this page server gives no pages out of images "
            "(copy the images to where lazy-pages runs, or use dump --lazy-pages)",
        ),
        ("dump -t 5 --remote --tls", "--tls: what goes to and from an image cache is not encrypted (use a tunnel)"),
        ("image-cache --tls", "--tls: what goes to and from an image cache is not encrypted (use a tunnel)"),
        ("dump -t 5 extra", "excess argument extra for dump"),
        ("restore prog", "excess argument prog for restore (words for a program to become need --exec-cmd)"),
        ("restore --restore-sibling", "--restore-sibling needs --restore-detached"),
        ("restore --exec-cmd", "--exec-cmd needs a command (put it after --)"),
        ("restore --exec-cmd -d -- x", "--exec-cmd and --restore-detached exclude each other"),
        ("dump -t 5 --exec-cmd -- x", "--exec-cmd works with restore only"),
        ("dump -t 5 --inherit-fd fd[3]:a", "--inherit-fd works with restore only"),
        ("dump -t 5 --mntns-compat-mode", "--mntns-compat-mode works with restore only"),
        ("check --stream", "--stream works with dump, pre-dump, restore and cpuinfo dump only"),
        ("cpuinfo check --stream", "--stream works with dump, pre-dump, restore and cpuinfo dump only"),
        ("check --ms", "--ms no longer exists (use check without it)"),
        ("restore -J net:5 --empty-ns net", "--join-ns and --empty-ns both name the net namespace"),
        (
            "page-server -d --ps-socket 2",
            "--ps-socket must be above 2 with --daemon, which replaces descriptors 0 to 2",
        ),
    ],
)
def test_what_cannot_be(args: str, reason: str) -> None:
    assert reasons(args) == [reason]


def test_all_reasons_come_at_once() -> None:
    assert len(reasons("dump x --ms --mntns-compat-mode --lazy-pages -S")) == 5


def test_unknown_command_names_the_known_ones() -> None:
    (reason,) = reasons("freeze")
    assert reason.startswith("unknown command freeze (known are dump, pre-dump, restore")


def test_bad_options_have_their_errno() -> None:
    with pytest.raises(Refused) as caught:
        parse(["dump"])
    assert caught.value.cr_errno == 56


def test_help_needs_no_command() -> None:
    assert parse(["--help"]).help
    assert parse(["dump", "-V"]).version


def test_network_lock_on_restore_is_a_warning(capfd: pytest.CaptureFixture[str]) -> None:
    check(parse("restore --network-lock skip".split()))
    assert "--network-lock means nothing on restore" in capfd.readouterr().err


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@st.composite
def uses(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, bool, str | None]]]:
    """A command line, and the uses it should come apart into."""
    args: list[str] = []
    expected: list[tuple[str, bool, str | None]] = []
    for option in draw(st.lists(st.sampled_from(list(OPTIONS.values())), max_size=8)):
        words, use = _spelling(draw, option)
        args += words
        expected.append(use)
    return args, expected


def _spelling(draw: st.DrawFn, option: Option) -> tuple[list[str], tuple[str, bool, str | None]]:
    if option.negatable and draw(st.booleans()):
        return [f"--no-{option.name}"], (option.name, True, None)
    by_letter = option.short and OPTIONS[option.name].short != "d" and draw(st.booleans())
    name = f"-{option.short}" if by_letter else f"--{option.name}"
    if option.arg == NONE or (option.arg == OPTIONAL and draw(st.booleans())):
        return [name], (option.name, False, None)
    text = draw(TEXT.filter(bool) if by_letter else TEXT)
    if option.arg == REQUIRED and draw(st.booleans()):
        return [name, text], (option.name, False, text)
    return [name + ("" if by_letter else "=") + text], (option.name, False, text)


@given(uses(), st.lists(TEXT, max_size=3))
def test_every_spelling_comes_apart_as_it_was_put_together(
    line: tuple[list[str], list[tuple[str, bool, str | None]]], words: list[str]
) -> None:
    args, expected = line
    found, rest = split([*args, "--", *words])
    assert [(option.name, negated, text) for option, negated, text in found] == expected
    assert rest == words


@given(st.sampled_from(sorted(OPTIONS)), st.integers(1))
def test_any_beginning_finds_the_option_or_says_that_it_is_not_the_only_one(name: str, length: int) -> None:
    beginning = name[:length]
    others = [other for other in OPTIONS if other.startswith(beginning)]
    others += [f"no-{o.name}" for o in OPTIONS.values() if o.negatable and f"no-{o.name}".startswith(beginning)]
    if len(others) == 1 or beginning in OPTIONS:
        assert find(beginning)[0].name == (name if len(others) == 1 else beginning)
    else:
        with pytest.raises(OptionError, match="ambiguous"):
            find(beginning)


@given(st.lists(st.text(max_size=8), max_size=6))
def test_no_words_crash_the_parser(args: list[str]) -> None:
    try:
        split(args)
    except OptionError as exc:
        assert exc.message
