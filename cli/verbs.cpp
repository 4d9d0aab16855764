#include "cli/verbs.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "agent/base/error.hpp"

namespace updagent::cli {
namespace {

using base::Exit;

const std::vector<Exit> kDriverExits = {Exit::done,        Exit::failed,          Exit::usage,
                                        Exit::refused,     Exit::rolled_back,     Exit::busy,
                                        Exit::not_fetched, Exit::rollback_failed, Exit::damaged};

// exit 1 everywhere: I/O, ^C, an answer that could not be written
const std::vector<Verb>& table() {
  static const std::vector<Verb> kVerbs = {
      {"keygen",
       "Make releases",
       "make a key pair that signs releases",
       "Writes NAME.key (PKCS#8 PEM, 0600) and NAME.pub (SPKI PEM) into DIR; Ed25519 unless --type "
       "says "
       "otherwise. Keep the .key where releases are built, give the .pub to the nodes: "
       "updagent trust add NAME.pub",
       {Exit::done, Exit::failed, Exit::usage},
       false,
       &setup_keygen},
      {"pack",
       "Make releases",
       "make a signed release from a directory or a tarball",
       "Reads updagent.toml from the tree (or --spec). The output is an ordinary tar archive that "
       "stock "
       "tar unpacks; the same input, updagent and Ed25519 key give the same bytes.\n"
       "  updagent pack build/ --key release.key -o shop-1.4.2.tar.gz",
       {Exit::done, Exit::failed, Exit::usage, Exit::refused},
       false,
       &setup_pack},
      {"sign",
       "Make releases",
       "add a signature to a release",
       "The release is not rebuilt: only its first entry changes. For a key in an HSM: --print-pae "
       "gives "
       "the bytes to sign, --attach SIG --public KEY.pub puts the signature in.",
       {Exit::done, Exit::failed, Exit::usage, Exit::refused, Exit::not_fetched},
       false,
       &setup_sign},
      {"inspect",
       "Look",
       "show what is in a release, trusted or not",
       "Reads the envelope and the manifest, from a file or a URL. Nothing is installed.",
       {Exit::done, Exit::failed, Exit::usage, Exit::refused, Exit::not_fetched},
       true,
       &setup_inspect},
      {"verify",
       "Look",
       "is a release trusted here, is an installed tree intact",
       "With a file or a URL: signatures, manifest and every byte. With --installed APP: every "
       "file of "
       "the current release against its manifest (exit 9 when one differs), and whether the keys "
       "that signed it are trusted today (exit 3 when they are not).",
       {Exit::done, Exit::failed, Exit::usage, Exit::refused, Exit::not_found, Exit::not_fetched,
        Exit::damaged},
       true,
       &setup_verify},
      {"trust",
       "Trust",
       "the keys whose releases this node installs",
       "trust add FILE [--app APP], trust list, trust remove KEY. Keys lie in trust.d/*.pub; a "
       "folder "
       "trust.d/APP/ with keys in it replaces them for that app.",
       {Exit::done, Exit::failed, Exit::usage, Exit::not_found},
       false,
       &setup_trust},
      {"apply", "Deploy", "install a release and make it current; undo it when it is not good",
       "SOURCE is verified (signatures, SHA-256 of every file), unpacked beside the current "
       "release, "
       "switched to with one rename, probed, watched and committed. A release that fails its "
       "probes is "
       "rolled back by itself.\n  updagent apply https://example.com/shop-1.4.2.tar.gz",
       kDriverExits, true, &setup_apply},
      {"rollback",
       "Deploy",
       "make the release before the current one current again",
       "The kept tree is hashed first; no network is needed. Its probes must pass afterwards.",
       {Exit::done, Exit::failed, Exit::usage, Exit::refused, Exit::busy, Exit::not_found,
        Exit::rollback_failed, Exit::damaged},
       true,
       &setup_rollback},
      {"deployment",
       "Deploy",
       "pause, resume, promote or abort the deployment that is under way",
       "deployment pause APP holds the present share of traffic while probes and gates go on "
       "judging; resume goes on; promote skips the rest of the steps and the watch; abort undoes "
       "it, "
       "and users are back before the answer. Who asked is in the log.",
       {Exit::done, Exit::failed, Exit::usage, Exit::busy, Exit::not_found},
       false,
       &setup_deployment},
      {"recover",
       "Deploy",
       "end what a killed deployment left open",
       "Run at boot by updagent-recover.service and by the guardian of each deployment; needs "
       "nothing to "
       "be typed. --rebuild makes a new database from the trees.",
       {Exit::done, Exit::failed, Exit::usage, Exit::busy, Exit::not_found, Exit::rollback_failed},
       true,
       &setup_recover},
      {"hold",
       "Deploy",
       "keep an app at its version until --off",
       "apply refuses while an app is held; rollback still works.",
       {Exit::done, Exit::failed, Exit::usage, Exit::not_found},
       false,
       &setup_hold},
      {"remove",
       "Deploy",
       "remove an app, or one kept release of it",
       "Removes the trees; data/ only with --data. The log and the knowledge of versions stay.",
       {Exit::done, Exit::failed, Exit::usage, Exit::busy, Exit::not_found},
       false,
       &setup_remove},
      {"status",
       "Look",
       "what runs on this node",
       "Current and previous release of each app, the deployment that is running, what waits for a "
       "person.",
       {Exit::done, Exit::failed, Exit::usage, Exit::not_found},
       false,
       &setup_status},
      {"start",
       "Services",
       "start the service of an app, as a boot does",
       "The committed release's, or the current one's where that has a rollback_floor above it. It "
       "is no longer to be stopped. Its tree is looked at first; where it runs, nothing happens. "
       "Waits until it serves.",
       {Exit::done, Exit::failed, Exit::usage, Exit::refused, Exit::busy, Exit::not_found,
        Exit::damaged},
       false,
       &setup_start},
      {"stop",
       "Services",
       "stop the service of an app, gracefully, and let it stay stopped",
       "Waits until its last process is gone; the supervisor ends with it. A boot leaves it "
       "stopped "
       "until start, or until a deployment to it is committed.",
       {Exit::done, Exit::failed, Exit::usage, Exit::refused, Exit::busy, Exit::not_found},
       false,
       &setup_stop},
      {"restart",
       "Services",
       "start the service anew, with the node's present configuration",
       "A new generation of the same release takes over, no connection is refused. What was "
       "stopped is started. Waits until it serves; if it does not come up, what ran goes on.",
       {Exit::done, Exit::failed, Exit::usage, Exit::refused, Exit::busy, Exit::not_found,
        Exit::damaged},
       false,
       &setup_restart},
      {"adopt",
       "Services",
       "take over a running service that updagent did not start",
       "The service of --pid goes on with its sockets; from now on they are updagent's too, and "
       "the "
       "first deployment replaces it without a gap. Where it listens says a description: --spec, a "
       "signed --release, or the committed release.\n"
       "  updagent adopt shop --pid $(cat /run/nginx.pid) --spec updagent.toml",
       {Exit::done, Exit::failed, Exit::usage, Exit::refused, Exit::busy, Exit::not_found,
        Exit::not_fetched},
       true,
       &setup_adopt},
      {"probe-connect",
       "Services",
       "a connection to one version of a service, on stdin and stdout",
       "Goes through the production address and reaches the newest generation of VERSION that "
       "lives, "
       "whoever users are with: a candidate before its first user, the old one beside it. An end "
       "of "
       "stdin is handed on; it ends when both ways have ended.\n"
       "  printf 'GET / HTTP/1.0\\r\\n\\r\\n' | updagent probe-connect shop 1.5.0",
       {Exit::done, Exit::failed, Exit::usage, Exit::refused, Exit::not_found},
       false,
       &setup_probe_connect},
      {"supervise",
       "Services",
       "become the supervisor of an app (what units run)",
       "Starts the committed release, if its tree is what was signed and it is not to be stopped, "
       "and stays. Where systemd is init only its unit runs this.",
       {Exit::done, Exit::failed, Exit::usage, Exit::refused, Exit::busy, Exit::not_found,
        Exit::damaged},
       false,
       &setup_supervise},
      {"releases",
       "Look",
       "the releases of an app: state, size, digest, when, by which trace",
       "",
       {Exit::done, Exit::failed, Exit::usage, Exit::not_found},
       false,
       &setup_releases},
      {"log",
       "Look",
       "the audit log",
       "log [filters], log show TRACE (a timeline), log verify [--head N:HASH], log export, log "
       "prune --before T. "
       "Times are RFC 3339 or relative: --since 2h.",
       {Exit::done, Exit::failed, Exit::usage, Exit::not_found, Exit::damaged},
       false,
       &setup_log},
      {"doctor",
       "Node",
       "what this node can and can't do, and the mend",
       "Kernel, file system, keys, permissions, clock, disk, configuration.",
       {Exit::done, Exit::failed, Exit::usage},
       false,
       &setup_doctor},
      {"version",
       "Node",
       "print the version",
       "",
       {Exit::done, Exit::failed, Exit::usage},
       false,
       &setup_version},
      {"help",
       "Node",
       "help on a verb; --man and --completion print the man page and the shell completion",
       "",
       {Exit::done, Exit::failed, Exit::usage},
       false,
       &setup_help},
  };
  return kVerbs;
}

}  // namespace

std::span<const Verb> verbs() {
  return table();
}

const CLI::Validator kDurationText(
    [](std::string& text) -> std::string {
      return base::parse_duration(text)
                 ? ""
                 : "expected a duration such as 30s, 5m or 1h30m, got '" + text + "'";
    },
    "DURATION");

base::Milliseconds duration_of(const std::string& checked_text) {
  return base::parse_duration(checked_text).value_or(base::Milliseconds(0));
}

}  // namespace updagent::cli
