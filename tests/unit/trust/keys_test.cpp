#include <sys/stat.h>
#include <sys/wait.h>

#include <set>

#include "agent/trust/base64.hpp"
#include "tests/unit/trust/support.hpp"

namespace updagent::trust {
namespace {

using namespace test;

std::string pem_of(const std::string& label, const std::string& der) {
  std::string body = base64_encode(der);
  std::string lines;
  for (; body.size() > 64; body.erase(0, 64)) lines += body.substr(0, 64) + "\n";
  return "-----BEGIN " + label + "-----\n" + lines + body + "\n-----END " + label + "-----\n";
}

std::string ed25519_pkcs8(const std::string& seed_hex) {
  return pem_of("PRIVATE KEY", unhex("302e020100300506032b657004220420" + seed_hex));
}

std::string ed25519_spki(const std::string& point_hex) {
  return pem_of("PUBLIC KEY", unhex("302a300506032b6570032100" + point_hex));
}

std::string p256_spki(const std::string& x_hex, const std::string& y_hex) {
  return pem_of("PUBLIC KEY",
                unhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004" + x_hex + y_hex));
}

// Runs a command of the test's own words; its exit status.
int run(const std::string& command) {
  const int status = std::system((command + " >/dev/null 2>&1").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string openssl_makes(const Folder& folder, const std::string& name,
                          const std::string& arguments) {
  EXPECT_EQ(run("openssl " + arguments + " -out " + folder.file(name)), 0) << arguments;
  ::chmod(folder.file(name).c_str(), 0600);
  return folder.file(name);
}

struct Rfc8032 {
  const char* seed;
  const char* point;
  const char* message;
  const char* signature;
};

// RFC 8032, section 7.1, TEST 1 to 3 and TEST SHA(abc).
const std::vector<Rfc8032> kVectors = {
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b"
     "4"
     "6bd25bf5f0595bbe24655141438e7a100b"},
    {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11"
     "d"
     "8c387b2eaeb4302aeeb00d291612bb0c00"},
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc"
     "6"
     "594a7c15e9716ed28dc027beceea1ec40a"},
    {"833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
     "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
     "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3fee"
     "b"
     "bd454d4423643ce80e2a9ac94fa54ca49f",
     "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e"
     "0"
     "303dca179c138ac17ad9bef1177331a704"},
};

TEST(Keys, Sign_and_verify_the_vectors_of_RFC_8032) {
  for (const Rfc8032& vector : kVectors) {
    const auto key = PrivateKey::from_pem(ed25519_pkcs8(vector.seed), "vector.key");
    ASSERT_TRUE(key) << key.error().line();
    const std::string message = unhex(vector.message);
    EXPECT_EQ(key->sign(message).value(), unhex(vector.signature));
    const auto half = parse_public_key(ed25519_spki(vector.point), "vector", "");
    ASSERT_TRUE(half) << half.error().line();
    EXPECT_EQ(half->key_id, half_of(*key).key_id);
    EXPECT_TRUE(signature_fits(*half, message, unhex(vector.signature)));
    EXPECT_FALSE(signature_fits(*half, message + "x", unhex(vector.signature)));
  }
}

// The key (x and y as hex) and the signature (raw r||s, here as DER) of DSSE's protocol.md, "Test
// Vectors".
TEST(Keys, Verify_the_published_signature_of_DSSE) {
  const auto key = parse_public_key(
      p256_spki("67cd390f77aa359cb08c2235f652270493a9ed832b0abcc01f70954c0390d238",
                "0c782bd54e269125a44f4433aff1432ce94e12bca73aa67ac80cea12608ddf74"),
      "dsse", "");
  ASSERT_TRUE(key) << key.error().line();
  const std::string message = pae("http://example.com/HelloWorld", "hello world");
  const std::string signature = unhex(
      "3044022003726ab101ad56c2763b6c6aac8e487275e2a79193a09dc5f859d9f8ef3c4a"
      "3b022051eab0c06a369b64a7222537d4887a893dc200ae21060074d57825235b624864");
  EXPECT_TRUE(signature_fits(*key, message, signature));
  EXPECT_FALSE(
      signature_fits(*key, pae("http://example.com/HelloWorld", "hello worlx"), signature));
}

TEST(Keys, Have_the_SHA_256_of_their_DER_as_id) {
  const auto key = parse_public_key(ed25519_spki(kVectors[0].point), "a", "");
  ASSERT_TRUE(key);
  EXPECT_EQ(key->key_id,
            base::sha256(unhex("302a300506032b6570032100" + std::string(kVectors[0].point))).hex());
  EXPECT_EQ(key->type, KeyType::ed25519);
  EXPECT_EQ(key->name, "a");
}

TEST(Keys, Show_a_fingerprint_in_groups_of_four) {
  EXPECT_EQ(fingerprint("ab12cd34ef56"), "SHA256:ab12 cd34 ef56");
  EXPECT_EQ(fingerprint(std::string(64, 'a')).size(), 7 + 64 + 15);
}

TEST(Keys, Survive_the_way_through_PEM) {
  for (const KeyType type : {KeyType::ed25519, KeyType::ecdsa_p256}) {
    const PrivateKey key = make_key(type);
    const auto again = PrivateKey::from_pem(key.to_pem().value(), "again");
    ASSERT_TRUE(again) << again.error().line();
    EXPECT_EQ(half_of(*again).key_id, half_of(key).key_id);
    const auto half = parse_public_key(public_key_pem(half_of(key)).value(), "k", "");
    ASSERT_TRUE(half) << half.error().line();
    EXPECT_EQ(half->key_id, half_of(key).key_id);
    EXPECT_EQ(half->type, type);
    EXPECT_TRUE(signature_fits(*half, "m", again->sign("m").value()));
  }
}

TEST(Keys, Written_as_a_pair_are_private_and_public_and_readable_again) {
  const Folder folder;
  for (const KeyType type : {KeyType::ed25519, KeyType::ecdsa_p256}) {
    const std::string name = type == KeyType::ed25519 ? "ed" : "ec";
    const auto half = write_key_pair(folder.file("keys"), name, type);
    ASSERT_TRUE(half) << half.error().line();
    EXPECT_EQ(half->path, folder.file("keys/" + name + ".pub"));
    EXPECT_EQ(folder.mode("keys/" + name + ".key"), 0600U);
    EXPECT_EQ(folder.mode("keys/" + name + ".pub"), 0644U);
    const auto key = PrivateKey::load(folder.file("keys/" + name + ".key"));
    ASSERT_TRUE(key) << key.error().line();
    EXPECT_EQ(half_of(*key).key_id, half->key_id);
    EXPECT_EQ(load_trust_from({half->path}, 1).value().keys[0].key_id, half->key_id);
  }
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.file("keys")))
    names.insert(entry.path().filename());
  EXPECT_EQ(names, (std::set<std::string>{"ec.key", "ec.pub", "ed.key", "ed.pub"}));
}

TEST(Keys, Are_never_written_over_an_existing_file) {
  for (const char* existing : {"k.key", "k.pub"}) {
    const Folder folder;
    folder.write(existing, "precious");
    const auto pair = write_key_pair(folder.path(), "k", KeyType::ed25519);
    EXPECT_REFUSED(pair, key_unusable);
    EXPECT_EQ(folder.read(existing), "precious");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
  }
}

#ifdef UPDAGENT_FAILPOINTS
constexpr const char* kFolderVariable = "UPDAGENT_TEST_KEY_FOLDER";

// Failpoints are read once a process: the test below runs this one in processes of their own.
TEST(Keys, Under_a_failpoint_are_not_written) {
  const char* folder = std::getenv(kFolderVariable);
  if (folder == nullptr) GTEST_SKIP() << "runs as the child of the next test";
  const auto pair = write_key_pair(folder, "k", KeyType::ed25519);
  ASSERT_FALSE(pair);
  EXPECT_EQ(pair.error().exit(), base::Exit::failed) << pair.error().line();
}

TEST(Keys, Leave_nothing_behind_when_a_write_fails) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  for (const char* failing :
       {"sys.write=ENOSPC", "sys.write#2=ENOSPC", "sys.fsync=EIO", "sys.fsync#2=EIO",
        "sys.fsync#3=EIO", "sys.fsync#4=EIO", "sys.rename=EIO", "sys.rename#2=EIO"}) {
    const Folder folder;
    const std::string environment = std::string(kFolderVariable) + "=" + folder.path() +
                                    " UPDAGENT_FAILPOINTS='" + failing + "' ";
    EXPECT_EQ(run(environment + self + " --gtest_filter=Keys.Under_a_failpoint_are_not_written"), 0)
        << failing;
    EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << failing;
  }
}
#endif  // UPDAGENT_FAILPOINTS

TEST(Keys, Want_a_plain_name) {
  const Folder folder;
  for (const char* name : {"", "../k", "a/b", ".k", "-k", "a b", "a\n"})
    EXPECT_REFUSED(write_key_pair(folder.path(), name, KeyType::ed25519), usage);
}

TEST(PrivateKeyFile, That_others_may_read_is_refused_with_the_chmod_line) {
  const Folder folder;
  const std::string pem = make_key().to_pem().value();
  for (const mode_t mode : {0644U, 0640U, 0604U, 0620U}) {
    const std::string path = folder.write("k.key", pem, mode);
    const auto key = PrivateKey::load(path);
    EXPECT_REFUSED(key, key_unusable);
    EXPECT_EQ(key.error().expected(), "mode 0600");
    EXPECT_EQ(key.error().hint(), "chmod 600 " + path);
  }
  for (const mode_t mode : {0600U, 0400U})
    EXPECT_TRUE(PrivateKey::load(folder.write("k.key", pem, mode)));
}

TEST(PrivateKeyFile, That_is_missing_or_no_file_is_refused) {
  const Folder folder;
  EXPECT_REFUSED(PrivateKey::load(folder.file("none")), key_unusable);
  EXPECT_REFUSED(PrivateKey::load(folder.path()), key_unusable);
  ASSERT_EQ(::mkfifo(folder.file("fifo").c_str(), 0600), 0);
  EXPECT_REFUSED(PrivateKey::load(folder.file("fifo")), key_unusable);  // and doesn't hang
  EXPECT_REFUSED(
      PrivateKey::load(folder.write("big", std::string(kMaxKeyFileBytes + 1, 'x'), 0600)),
      key_unusable);
}

TEST(PrivateKeyFile, Of_another_algorithm_is_refused_by_its_name) {
  const Folder folder;
  const std::vector<std::pair<std::string, std::string>> kinds = {
      {"genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048", "RSA, 2048 bits"},
      {"genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384", "ECDSA on secp384r1"},
      {"genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", "ECDSA on secp256k1"},
      {"genpkey -algorithm ED448", "ED448"},
      {"genpkey -algorithm X25519", "X25519"},
  };
  for (const auto& [arguments, name] : kinds) {
    const auto key = PrivateKey::load(openssl_makes(folder, "k.key", arguments));
    EXPECT_REFUSED(key, key_unusable);
    EXPECT_EQ(key.error().expected(), "Ed25519 or ECDSA P-256");
    EXPECT_EQ(key.error().got(), name);
    const std::string half =
        openssl_makes(folder, "k.pub", "pkey -pubout -in " + folder.file("k.key"));
    const auto pub = parse_public_key(folder.read("k.pub"), "k", half);
    EXPECT_REFUSED(pub, key_unusable);
    EXPECT_EQ(pub.error().got(), name);
  }
}

TEST(PrivateKeyFile, That_is_encrypted_or_of_another_form_is_refused_with_the_way_out) {
  const Folder folder;
  const std::string plain =
      openssl_makes(folder, "k.key", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256");
  const auto encrypted = PrivateKey::load(
      openssl_makes(folder, "e.key", "pkcs8 -topk8 -v2 aes-256-cbc -passout pass:x -in " + plain));
  EXPECT_REFUSED(encrypted, key_unusable);
  EXPECT_EQ(encrypted.error().got(), "a private key encrypted with a passphrase");
  EXPECT_EQ(encrypted.error().hint(),
            "openssl pkcs8 -topk8 -nocrypt -out NEW.key -in " + folder.file("e.key"));
  const auto old =
      PrivateKey::load(openssl_makes(folder, "o.key", "ec -aes128 -passout pass:x -in " + plain));
  EXPECT_REFUSED(old, key_unusable);
  EXPECT_EQ(old.error().got(), "a private key encrypted with a passphrase");
  const auto sec1 = PrivateKey::load(openssl_makes(folder, "s.key", "ec -in " + plain));
  EXPECT_REFUSED(sec1, key_unusable);
  EXPECT_EQ(sec1.error().got(), "an EC private key in SEC1 form");
  const auto half = PrivateKey::load(openssl_makes(folder, "k.pub", "pkey -pubout -in " + plain));
  EXPECT_REFUSED(half, key_unusable);
  EXPECT_EQ(half.error().got(), "a public key");
  ASSERT_EQ(::chmod(folder.file("k.pub").c_str(), 0644), 0);  // as it mostly is
  EXPECT_EQ(PrivateKey::load(folder.file("k.pub")).error().got(), "a public key");
  const auto whole = parse_public_key(folder.read("k.key"), "k", plain);
  EXPECT_REFUSED(whole, key_unusable);
  EXPECT_EQ(whole.error().hint(), "openssl pkey -pubout -in " + plain);
}

// One key in two encodings would have two ids and count twice.
TEST(PublicKeyFile, With_a_compressed_point_or_explicit_parameters_is_refused) {
  const Folder folder;
  const std::string key =
      openssl_makes(folder, "k.key", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256");
  for (const char* form : {"-conv_form compressed", "-conv_form hybrid", "-param_enc explicit"}) {
    openssl_makes(folder, "k.pub", "ec -pubout " + std::string(form) + " -in " + key);
    EXPECT_REFUSED(parse_public_key(folder.read("k.pub"), "k", ""), key_unusable);
  }
}

TEST(PublicKeyFile, That_is_damaged_is_refused) {
  const std::string good = ed25519_spki(kVectors[0].point);
  const std::string der = unhex("302a300506032b6570032100" + std::string(kVectors[0].point));
  const std::vector<std::string> bad = {
      "",
      "hello",
      good.substr(0, good.size() / 2),
      good + good,
      pem_of("PUBLIC KEY", ""),
      pem_of("PUBLIC KEY", der + "x"),
      pem_of("PUBLIC KEY", der.substr(0, der.size() - 1)),
      pem_of("CERTIFICATE", der),
      pem_of("PRIVATE KEY", der),
      "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me",
      p256_spki(std::string(64, '1'), std::string(64, '1')),  // not on the curve
  };
  for (const std::string& pem : bad) {
    const auto key = parse_public_key(pem, "k", "/x/k.pub");
    ASSERT_FALSE(key) << pem;
    EXPECT_EQ(key.error().code(), base::Code::key_unusable) << pem;
    EXPECT_NE(key.error().message().find("/x/k.pub"), std::string::npos);
    EXPECT_FALSE(key.error().got().empty()) << pem;
  }
}

TEST(PublicKeyFile, May_have_comments_around_its_block) {
  EXPECT_TRUE(
      parse_public_key("# of the build server\n" + ed25519_spki(kVectors[0].point), "k", ""));
}

TEST(PrivateKeyFile, Whose_public_half_is_another_keys_is_refused) {
  const Folder folder;
  const auto der_of = [&](const std::string& name) {
    openssl_makes(folder, name + ".pem", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    openssl_makes(folder, name + ".der",
                  "pkcs8 -topk8 -nocrypt -outform DER -in " + folder.file(name + ".pem"));
    return folder.read(name + ".der");
  };
  const std::string a = der_of("a");
  const std::string b = der_of("b");
  ASSERT_EQ(a.size(), b.size());
  const std::string mixed = a.substr(0, a.size() - 64) + b.substr(b.size() - 64);  // the point
  EXPECT_TRUE(PrivateKey::from_pem(pem_of("PRIVATE KEY", a), "a"));
  EXPECT_REFUSED(PrivateKey::from_pem(pem_of("PRIVATE KEY", mixed), "mixed"), key_unusable);
}

TEST(OpensslCommand, Verifies_what_we_sign) {
  const Folder folder;
  const std::string message = folder.write("message", pae(kPayloadType, make_statement(shop())));
  for (const KeyType type : {KeyType::ed25519, KeyType::ecdsa_p256}) {
    const PrivateKey key = make_key(type);
    const std::string half = folder.write("k.pub", public_key_pem(half_of(key)).value());
    const std::string signature = folder.write("sig", key.sign(folder.read("message")).value());
    const std::string verify =
        type == KeyType::ed25519
            ? "openssl pkeyutl -verify -rawin -pubin -inkey " + half + " -sigfile " + signature +
                  " -in "
            : "openssl dgst -sha256 -verify " + half + " -signature " + signature + " ";
    EXPECT_EQ(run(verify + message), 0) << key_type_name(type);
    EXPECT_NE(run(verify + folder.write("other", "other bytes")), 0) << key_type_name(type);
  }
}

TEST(OpensslCommand, Signs_what_we_verify) {
  const Folder folder;
  const std::string message = folder.write("message", pae(kPayloadType, make_statement(shop())));
  const PrivateKey ed = make_key(KeyType::ed25519);
  const std::string ed_file = folder.write("ed.key", ed.to_pem().value(), 0600);
  ASSERT_EQ(run("openssl pkeyutl -sign -rawin -inkey " + ed_file + " -in " + message + " -out " +
                folder.file("sig")),
            0);
  EXPECT_TRUE(signature_fits(half_of(ed), folder.read("message"), folder.read("sig")));
  const PrivateKey ec = make_key(KeyType::ecdsa_p256);
  const std::string ec_file = folder.write("ec.key", ec.to_pem().value(), 0600);
  ASSERT_EQ(
      run("openssl dgst -sha256 -sign " + ec_file + " -out " + folder.file("sig") + " " + message),
      0);
  EXPECT_TRUE(signature_fits(half_of(ec), folder.read("message"), folder.read("sig")));
}

}  // namespace
}  // namespace updagent::trust
