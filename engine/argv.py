"""The command line, by the rules of getopt_long(3), and what must hold between options.

argparse is not used: it costs 10 ms of start-up, and it cannot do `-v4`, `-x5,6` and `--no-all` the way getopt_long
does, on which scripts around CRIU rely.
"""

from __future__ import annotations

from engine import log
from engine.errors import Problems
from engine.option import EBADRQC, NONE, OPTIONAL, REQUIRED, Option, OptionError
from engine.options import COMMANDS, OPTIONS, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    # an option, whether it is said as --no-NAME, and its argument
    Use: TypeAlias = tuple[Option, bool, str | None]

DEPRECATED_COMMANDS = ("exec", "show")

_LONG: dict[str, tuple[Option, bool]] = {}
for _option in OPTIONS.values():
    _LONG[_option.name] = (_option, False)
    if _option.negatable:
        _LONG["no-" + _option.name] = (_option, True)
# -d is --restore-detached and --daemon, which are one value.
_SHORT = {option.short: option for option in OPTIONS.values() if option.short}


def parse(args: list[str]) -> Options:
    """Configuration files and command line as one Options, checked. args: without the program name.

    Raises OptionError, or Refused with everything that contradicts itself. With --help or --version nothing is
    checked and no file is read.
    """
    from engine.config import read_files

    uses, words = split(args)
    opts = Options()
    names = {option.name for option, _, _ in uses}
    if not names & {"help", "version"}:
        chosen = [text for option, _, text in uses if option.name == "config"]
        apply_all(opts, read_files(chosen[-1] if chosen else None, "no-default-config" in names))
    for use in uses:
        apply(opts, use)
    _take_words(opts, words)
    if not (opts.help or opts.version):
        check(opts)
    return opts


def apply_all(opts: Options, found: Iterator[tuple[str, int, Use]]) -> None:
    """Let all that stands in configuration files have its effect. Raises OptionError that names file and line."""
    for path, number, use in found:
        try:
            apply(opts, use)
        except OptionError as exc:
            raise OptionError(f"{path}:{number}: {exc.message}") from None


def apply(opts: Options, use: Use) -> None:
    """Let one use of an option have its effect."""
    option, negated, text = use
    if negated:
        opts.set(option, False)
    else:
        opts.use(option, text)


def split(args: list[str]) -> tuple[list[Use], list[str]]:
    """Uses of options, and the other words. Words may stand anywhere; after "--" there are only words."""
    uses: list[Use] = []
    words: list[str] = []
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            words.extend(rest)
        elif arg.startswith("--"):
            name, equals, text = arg[2:].partition("=")
            option, negated = find(name)
            uses.append((option, negated, _long_argument(option, negated, text if equals else None, rest)))
        elif arg.startswith("-") and arg != "-":
            uses.extend(_cluster(arg[1:], rest))
        else:
            words.append(arg)
    return uses, words


def find(name: str) -> tuple[Option, bool]:
    """The option of a long name or a unique beginning of one, and whether it is its negation."""
    exact = _LONG.get(name)
    if exact is not None:
        return exact
    matches = [long for long in _LONG if long.startswith(name)] if name else []
    if not matches:
        raise OptionError(f"unknown option --{name}, see --help")
    if len(matches) > 1:
        raise OptionError(f"--{name} is ambiguous: it can be --" + ", --".join(sorted(matches)))
    return _LONG[matches[0]]


def argument(option: Option, negated: bool, text: str | None) -> str | None:
    """Check that there is an argument exactly where one belongs."""
    shown = f"--no-{option.name}" if negated else f"--{option.name}"
    if text is not None and (negated or option.arg == NONE):
        raise OptionError(f"{shown} takes no argument")
    if text is None and option.arg == REQUIRED and not negated:
        raise OptionError(f"{shown} needs an argument: {option.metavar}")
    return text


def _long_argument(option: Option, negated: bool, text: str | None, rest: Iterator[str]) -> str | None:
    if text is None and option.arg == REQUIRED and not negated:
        text = next(rest, None)
    return argument(option, negated, text)


def _cluster(letters: str, rest: Iterator[str]) -> list[Use]:
    """Letters behind one dash: "jv4" is -j -v4. An argument is the rest of the word, or else the next one."""
    uses: list[Use] = []
    while letters:
        option = _SHORT.get(letters[0])
        if option is None:
            raise OptionError(f"unknown option -{letters[0]}, see --help")
        letters = letters[1:]
        text = None
        if option.arg != NONE:
            text, letters = letters or None, ""
        if option.arg == OPTIONAL:
            uses.append((option, False, text))
        else:
            uses.append((option, False, _long_argument(option, False, text, rest)))
    return uses


def _take_words(opts: Options, words: list[str]) -> None:
    if not words:
        return
    opts.command = words[0]
    if "exec_cmd" in opts.given:
        opts.exec_cmd = words[1:]
    else:
        opts.words = words[1:]


def check(opts: Options) -> None:
    """Raise Refused with every reason why this command cannot run with these options."""
    problems = Problems()
    _check_words(opts, problems)
    _check_commands(opts, problems)
    _check_pairs(opts, problems)
    problems.cr_errno = EBADRQC
    problems.raise_if_any(opts.command or "command")


def _check_words(opts: Options, problems: Problems) -> None:
    command, words = opts.command, opts.words
    if not command:
        problems.add("no command given", remedy="see --help")
    elif command not in COMMANDS and command not in DEPRECATED_COMMANDS:
        problems.add(f"unknown command {command}", remedy="known are " + ", ".join(COMMANDS))
    if command == "cpuinfo":
        if words not in (["dump"], ["check"]):
            problems.add("cpuinfo needs one of the words dump and check")
    elif command == "swrk":
        if len(words) != 1 or not words[0].isdecimal():
            problems.add("swrk needs the number of a connected socket")
    elif words and command not in DEPRECATED_COMMANDS:
        remedy = "words for a program to become need --exec-cmd" if command == "restore" else None
        problems.add(f"excess argument {words[0]} for {command}", remedy=remedy)


def _check_commands(opts: Options, problems: Problems) -> None:
    """Options that belong to some commands only. The others are ignored where they mean nothing, as in CRIU."""
    command = opts.command
    for attribute in ("exec_cmd", "inherit_fd", "mntns_compat_mode"):
        if attribute in opts.given and getattr(opts, attribute) is not False and command != "restore":
            problems.add(f"--{attribute.replace('_', '-')} works with restore only")
    if opts.stream and not (command in ("dump", "pre-dump", "restore") or opts.words == ["dump"]):
        problems.add("--stream works with dump, pre-dump, restore and cpuinfo dump only")
    if command in ("dump", "pre-dump") and opts.tree is None:
        problems.add(f"{command} needs the root of the process tree", remedy="use --tree PID")
    if command == "pre-dump" and opts.lazy_pages:
        problems.add("pre-dump does not work with --lazy-pages")
    if command == "page-server" and opts.lazy_pages:
        remedy = "copy the images to where lazy-pages runs, or use dump --lazy-pages"
        problems.add("page-server --lazy-pages: this page server gives no pages out of images", remedy=remedy)
    if opts.tls and (opts.remote or command in ("image-proxy", "image-cache")):
        problems.add("--tls: what goes to and from an image cache is not encrypted", remedy="use a tunnel")
    if command == "restore" and opts.tree is not None:
        log.warn("--tree means nothing on restore: the images say which tree it is")
    if command == "restore" and "network_lock" in opts.given:
        log.warn("--network-lock means nothing on restore: the images say which lock was used")
    if opts.ms:
        problems.add("--ms no longer exists", remedy="use check without it")


def _check_pairs(opts: Options, problems: Problems) -> None:
    """Options that need or exclude one another. A restore by RPC is always detached, whatever comes after it."""
    if opts.restore_sibling and not opts.restore_detached:
        problems.add("--restore-sibling needs --restore-detached")
    if "exec_cmd" in opts.given:
        if not opts.exec_cmd:
            problems.add("--exec-cmd needs a command", remedy="put it after --")
        if opts.restore_detached and not opts.client:
            problems.add("--exec-cmd and --restore-detached exclude each other")
    if "ps_socket" in opts.given and opts.ps_socket <= 2 and opts.restore_detached:
        problems.add("--ps-socket must be above 2 with --daemon, which replaces descriptors 0 to 2")
    for attribute in ("auto_dedup", "lazy_pages", "page_server", "stream"):
        if opts.remote and getattr(opts, attribute):
            problems.add(f"--remote and --{attribute.replace('_', '-')} exclude each other")
    if opts.unconfirmed and not opts.remote:
        problems.add("--unconfirmed needs --remote")
    for namespace, _, _ in opts.join_ns:
        if namespace in opts.empty_ns:
            problems.add(f"--join-ns and --empty-ns both name the {namespace} namespace")
