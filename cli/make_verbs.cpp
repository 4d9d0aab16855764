// keygen, pack, sign: the verbs of whoever makes releases.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/release/pack.hpp"
#include "agent/trust/trust.hpp"
#include "cli/artifact_input.hpp"
#include "cli/verbs.hpp"

namespace updagent::cli {
namespace {

using base::Code;
using base::Error;
using base::Exit;

struct KeygenOptions {
  std::string out = ".";
  std::string name;
  std::string type = "ed25519";
};

Exit run_keygen(Session& session, const KeygenOptions& options) {
  const trust::KeyType type =
      options.type == "ed25519" ? trust::KeyType::ed25519 : trust::KeyType::ecdsa_p256;
  const auto key = trust::write_key_pair(options.out, options.name, type);
  if (!key) return session.fail(key.error());
  const std::string stem = options.out + "/" + options.name;
  session.document({{"key", stem + ".key"},
                    {"public_key", stem + ".pub"},
                    {"key_id", key->key_id},
                    {"type", trust::key_type_name(key->type)}});
  session.print("private key  " + stem + ".key   (0600: whoever reads it can sign releases)");
  session.print("public key   " + stem + ".pub   for the nodes: updagent trust add " + stem +
                ".pub");
  session.print("fingerprint  " + trust::fingerprint(key->key_id));
  return Exit::done;
}

struct PackOptions {
  std::string input;
  std::vector<std::string> keys;
  std::string output;
  std::string spec;
  std::string app;
  std::string version;
  int level = 0;
};

base::Result<std::vector<trust::PrivateKey>> load_keys(const std::vector<std::string>& paths) {
  std::vector<trust::PrivateKey> keys;
  for (const std::string& path : paths) {
    UPD_ASSIGN(trust::PrivateKey key, trust::PrivateKey::load(path));
    keys.push_back(std::move(key));
  }
  return keys;
}

std::vector<const trust::PrivateKey*> pointers(const std::vector<trust::PrivateKey>& keys) {
  std::vector<const trust::PrivateKey*> all;
  all.reserve(keys.size());
  for (const trust::PrivateKey& key : keys) all.push_back(&key);
  return all;
}

Exit run_pack(Session& session, const PackOptions& options) {
  const auto keys = load_keys(options.keys);
  if (!keys) return session.fail(keys.error());
  release::PackRequest request;
  request.input = options.input;
  if (!options.spec.empty()) request.spec_path = options.spec;
  if (!options.app.empty()) request.app = options.app;
  if (!options.version.empty()) request.version = options.version;
  request.output = options.output;
  request.compression_level = options.level;
  request.secrets = options.keys;
  request.make_envelope = [&keys](const std::string& app, const std::string& version,
                                  const base::Digest& manifest) {
    return trust::make_envelope({app, version, manifest}, pointers(*keys));
  };
  const auto packed = release::pack(request);
  if (!packed) return session.fail(packed.error());
  Json signers = Json::array();
  for (const trust::PrivateKey& key : *keys)
    if (const auto own = key.public_key()) signers.push_back(own->key_id);
  session.document({{"file", options.output},
                    {"app", packed->app},
                    {"version", packed->version},
                    {"manifest_sha256", packed->manifest_digest.hex()},
                    {"file_sha256", packed->file_digest.hex()},
                    {"entries", packed->entries},
                    {"content_bytes", packed->content_bytes},
                    {"file_bytes", packed->file_bytes},
                    {"signed_by", signers},
                    {"notes", packed->notes}});
  for (const std::string& note : packed->notes) session.note(note);
  session.print(session.good("packed") + "    " + packed->app + " " + packed->version + "  -> " +
                options.output);
  session.print("entries   " + std::to_string(packed->entries) + ", " +
                base::human_bytes(packed->content_bytes) + " of files, " +
                base::human_bytes(packed->file_bytes) + " packed");
  session.print("manifest  sha256 " + packed->manifest_digest.hex());
  session.print("file      sha256 " + packed->file_digest.hex());
  return Exit::done;
}

struct SignOptions {
  std::string file;
  std::vector<std::string> keys;
  std::string output;
  bool print_pae = false;
  std::string attach;
  std::string public_key;
};

base::Result<std::string> envelope_of(Session& session, const std::string& file) {
  UPD_ASSIGN(const auto input, ArtifactInput::open(session, file));
  return input->reader().read_envelope();
}

base::Result<std::string> signed_envelope(const SignOptions& options, std::string envelope) {
  for (const std::string& path : options.keys) {
    UPD_ASSIGN(const trust::PrivateKey key, trust::PrivateKey::load(path));
    UPD_ASSIGN(envelope, trust::add_signature(envelope, key));
  }
  if (options.attach.empty()) return envelope;
  UPD_ASSIGN(const std::string signature, base::read_file(options.attach, trust::kMaxKeyFileBytes));
  UPD_ASSIGN(const std::string pem, base::read_file(options.public_key, trust::kMaxKeyFileBytes));
  UPD_ASSIGN(const trust::PublicKey key,
             trust::parse_public_key(pem, options.public_key, options.public_key));
  // A signature that doesn't fit helps nobody: it is refused here, not on a thousand nodes.
  return trust::attach_signature(envelope, key, signature);
}

Exit run_sign(Session& session, const SignOptions& options) {
  const auto envelope = envelope_of(session, options.file);
  if (!envelope) return session.fail(envelope.error());
  if (options.print_pae) {
    const auto parsed = trust::parse_envelope(*envelope);
    if (!parsed) return session.fail(parsed.error());
    session.raw(trust::pae(parsed->payload_type, parsed->payload));
    return Exit::done;
  }
  if (options.keys.empty() && options.attach.empty())
    return session.fail(Error(Code::usage, "nothing to sign with")
                            .expected("--key KEY, --attach SIG --public KEY.pub, or --print-pae"));
  if (!options.attach.empty() && options.public_key.empty())
    return session.fail(
        Error(Code::usage, "--attach needs --public KEY.pub, to name and check the key"));
  if (options.output.empty())
    return session.fail(Error(Code::usage, "where to?").expected("-o FILE2"));
  const auto with = signed_envelope(options, *envelope);
  if (!with) return session.fail(with.error());
  const base::Status written = release::replace_envelope(options.file, *with, options.output);
  if (!written) return session.fail(written.error());
  const auto parsed = trust::parse_envelope(*with);
  Json signers = Json::array();
  if (parsed)
    for (const trust::SignatureInfo& signature : parsed->signatures)
      signers.push_back(signature.key_id);
  session.document({{"file", options.output}, {"signed_by", signers}});
  session.print(session.good("signed") + "  " + options.output + ", " +
                std::to_string(signers.size()) +
                (signers.size() == 1 ? " signature" : " signatures"));
  return Exit::done;
}

}  // namespace

Run setup_keygen(CLI::App& command) {
  const auto options = std::make_shared<KeygenOptions>();
  command.add_option("--out", options->out, "folder for both files")
      ->type_name("DIR")
      ->capture_default_str();
  command.add_option("--name", options->name, "of the key: NAME.key, NAME.pub")
      ->type_name("NAME")
      ->required();
  command.add_option("--type", options->type, "ed25519 or ecdsa-p256")
      ->type_name("T")
      ->capture_default_str()
      ->check(CLI::IsMember({"ed25519", "ecdsa-p256"}));
  return [options](Session& session) { return run_keygen(session, *options); };
}

Run setup_pack(CLI::App& command) {
  const auto options = std::make_shared<PackOptions>();
  command
      .add_option("INPUT", options->input,
                  "a directory, or a tarball (npm pack's .tgz, a source archive)")
      ->required();
  command
      .add_option("--key", options->keys, "private key to sign with; may be given several times")
      ->type_name("KEY")
      ->required()
      ->allow_extra_args(false);
  command.add_option("-o,--output", options->output, "FILE.tar.gz, .tgz or .tar.zst")
      ->type_name("FILE")
      ->required();
  command
      .add_option("--spec", options->spec, "updagent.toml to use instead of the one in the input")
      ->type_name("FILE");
  command.add_option("--app", options->app, "wins over the spec")->type_name("NAME");
  command.add_option("--version", options->version, "wins over the spec")->type_name("SEMVER");
  command.add_option("--level", options->level, "of the compressor (default gzip 6, zstd 10)")
      ->type_name("N")
      ->check(CLI::Range(1, 19));
  return [options](Session& session) { return run_pack(session, *options); };
}

Run setup_sign(CLI::App& command) {
  const auto options = std::make_shared<SignOptions>();
  command.add_option("FILE", options->file, "the artifact")->required();
  command.add_option("--key", options->keys, "private key; may be given several times")
      ->type_name("KEY")
      ->allow_extra_args(false);
  command.add_option("-o,--output", options->output, "the artifact with the signature")
      ->type_name("FILE2");
  command.add_flag("--print-pae", options->print_pae,
                   "write the bytes that a signature covers to stdout");
  command
      .add_option("--attach", options->attach,
                  "a signature made elsewhere (raw Ed25519; ECDSA as DER or raw r||s)")
      ->type_name("SIG");
  command.add_option("--public", options->public_key, "the key that made it")->type_name("KEY.pub");
  return [options](Session& session) { return run_sign(session, *options); };
}

}  // namespace updagent::cli
