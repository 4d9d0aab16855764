#include <fcntl.h>
#include <openssl/crypto.h>
#include <unistd.h>

#include "agent/base/files.hpp"
#include "agent/base/guarded_file.hpp"
#include "agent/base/random.hpp"
#include "agent/base/text.hpp"
#include "agent/trust/pem.hpp"
#include "agent/trust/trust.hpp"

namespace updagent::trust {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

// A file name component that also reads well in `trust list`.
bool is_key_name(std::string_view name) {
  constexpr std::size_t kMaxKeyName = 100;  // a file name with room for suffixes
  return !name.empty() && name.size() <= kMaxKeyName && name.front() != '.' &&
         name.front() != '-' &&
         name.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
             "@+") == std::string_view::npos;
}

// A new file under a temporary name, gone again unless it was given its real one.
class NewFile {
 public:
  NewFile(int directory_fd, std::string name)
      : directory_fd_(directory_fd), name_(std::move(name)) {}
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile() {
    if (!on_disk_.empty()) ::unlinkat(directory_fd_, on_disk_.c_str(), 0);
  }

  Status write(std::string_view content, mode_t mode) {
    const std::string unique = base::random_bytes(8);
    const std::string temporary =
        "." + name_ + "." +
        base::to_hex({reinterpret_cast<const std::uint8_t*>(unique.data()), unique.size()});
    const UniqueFd file(::openat(directory_fd_, temporary.c_str(),
                                 O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
    if (!file) return base::system_error(errno, "cannot write '" + name_ + "'");
    on_disk_ = temporary;
    if (::fchmod(file.get(), mode) != 0)
      return base::system_error(errno, "cannot chmod '" + name_ + "'");
    UPD_TRY(base::write_all(file.get(), content, name_));
    return base::fsync_fd(file.get(), name_);
  }
  // Refused when the name is taken, even since we looked.
  Status appear() {
    const Status renamed =
        base::rename_durably(directory_fd_, on_disk_, directory_fd_, name_, true);
    // the fsync after the rename may be what failed: then it is ours to remove under its new name
    if (!base::exists_at(directory_fd_, on_disk_)) on_disk_ = name_;
    return renamed;
  }
  void keep() { on_disk_.clear(); }

 private:
  int directory_fd_;
  std::string name_;
  std::string on_disk_;
};

Status refuse_existing(int directory_fd, const std::string& directory, const std::string& file) {
  if (!base::exists_at(directory_fd, file)) return base::ok();
  return Error(Code::key_unusable, "'" + directory + "/" + file + "' is there already")
      .expected("a new file")
      .hint("choose another --name: a key is never written over");
}

// "" when it is none. Everybody may read one: not its mode is wrong, and chmod would not help.
std::string public_key_in(const std::string& path) {
  const auto file = base::open_path(path, O_RDONLY | O_NONBLOCK);
  if (!file) return "";
  auto text = base::read_fd(file->get(), path, kMaxKeyFileBytes);
  return text && text->starts_with("-----BEGIN PUBLIC KEY-----") ? std::move(*text) : "";
}

}  // namespace

Status check_key_name(std::string_view name) {
  if (is_key_name(name)) return base::ok();
  return Error(Code::usage, "'" + std::string(name) + "' is no name for a key")
      .expected("1 to 100 letters, digits, '.', '_', '-', '@' or '+', no '.' or '-' in front")
      .got("'" + std::string(name) + "'")
      .hint("choose one with --name NAME");
}

Result<PrivateKey> PrivateKey::load(const std::string& path) {
  // any owner: whoever may read it holds the key anyway
  const base::Guard guard{Code::key_unusable, base::kOthersMayReadOrWrite, true};
  auto read = base::read_guarded_file(path, guard, kMaxKeyFileBytes);
  if (!read)
    if (const std::string half = public_key_in(path); !half.empty()) return from_pem(half, path);
  UPD_ASSIGN(auto pem, std::move(read));
  if (!pem)
    return Error(Code::key_unusable, "there is no key '" + path + "'")
        .hint("make a pair with: updagent keygen --out DIR --name NAME");
  const SecretBytes secret(std::move(*pem));
  return from_pem(secret.view(), path);
}

Result<PublicKey> write_key_pair(const std::string& directory, const std::string& name,
                                 KeyType type) {
  UPD_TRY(check_key_name(name));
  UPD_TRY(base::make_directories(directory, 0700));
  UPD_ASSIGN(const UniqueFd folder, base::open_directory(directory));
  UPD_TRY(refuse_existing(folder.get(), directory, name + ".key"));
  UPD_TRY(refuse_existing(folder.get(), directory, name + ".pub"));
  UPD_ASSIGN(const PrivateKey key, PrivateKey::generate(type));
  UPD_ASSIGN(PublicKey half, key.public_key());
  UPD_ASSIGN(const std::string public_pem, public_key_pem(half));
  UPD_ASSIGN(std::string private_pem, key.to_pem());
  const SecretBytes secret(std::move(private_pem));
  NewFile key_file(folder.get(), name + ".key");
  NewFile pub_file(folder.get(), name + ".pub");
  UPD_TRY(key_file.write(secret.view(), 0600));
  UPD_TRY(pub_file.write(public_pem, 0644));
  UPD_TRY(key_file.appear());
  UPD_TRY(pub_file.appear());
  key_file.keep();
  pub_file.keep();
  half.name = name;
  half.path = directory + "/" + name + ".pub";
  return half;
}

}  // namespace updagent::trust
