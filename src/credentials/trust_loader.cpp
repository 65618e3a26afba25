// SPDX-License-Identifier: Apache-2.0
#include "trust_loader.hpp"

#include <fmt/format.h>
#include <mbedtls/base64.h>

#include <algorithm>

#include "der.hpp"
#include "failure.hpp"

namespace trireme::credentials {
namespace {

constexpr std::size_t kRoomForLabels = 64;  // the bytes of a token that are reserved for labels
constexpr std::size_t kMinSecret = 32;
constexpr std::size_t kMaxSecret = 1024;
constexpr std::size_t kMaxSecrets = 16;
constexpr const char* kMakeAuthority =
    "create a P-256 CA with trirectl pki init and certificates with trirectl pki issue";

}  // namespace

tl::expected<std::shared_ptr<const Trust>, std::vector<TrustProblem>> TrustLoader::load(
    const Keyring* previous) {
  auto random = Random::open();
  auto own_random = Random::open();
  if (!random || !own_random) {
    return tl::unexpected(
        std::vector<TrustProblem>{{random ? own_random.error() : random.error(), ""}});
  }
  auto keyring = std::make_shared<Keyring>(std::move(*own_random));
  if (previous != nullptr) {
    keyring->keep_local(*previous);
  } else if (Status made = keyring->make_local(); !made) {
    return tl::unexpected(std::vector<TrustProblem>{{made.error(), ""}});
  }
  read_authorities();
  for (const File& file : material_.revoked) {
    read_revoked(file);
  }
  if (!material_.certificate.path.empty() || !material_.key.path.empty()) {
    read_certificate(*keyring, *random);
  }
  if (!material_.psk.path.empty()) {
    read_secrets(*keyring);
  }
  if (!problems_.empty()) {
    return tl::unexpected(std::move(problems_));
  }
  keyring->set_authorities(std::move(authorities_));
  keyring->set_material(digest(material_));
  return keyring;
}

Digest digest(const TrustMaterial& material) {
  std::vector<Digest> parts;
  const auto add = [&parts](std::string_view text) { parts.push_back(sha256({bytes_of(text)})); };
  const auto add_files = [&](std::span<const TrustMaterial::File> files) {
    for (const TrustMaterial::File& file : files) {
      add(file.path);
      add(file.content);
    }
    add({});
  };
  add(material.host_name);
  add(material.host_labels.encode());
  for (const TrustMaterial::File* file : {&material.certificate, &material.key, &material.psk}) {
    add_files({file, 1});
  }
  add_files(material.authorities);
  add_files(material.revoked);
  return sha256({Bytes(parts.front().data(), parts.size() * sizeof(Digest))});
}

void TrustLoader::problem(const File& file, const std::string& what, std::string hint) {
  problems_.push_back({{fmt::format("'{}' {}", file.path, what), std::move(hint)}, file.path});
}

void TrustLoader::read_authorities() {
  for (const File& file : material_.authorities) {
    const auto blocks = read_blocks(file.content, "CERTIFICATE");
    if (blocks.empty()) {
      problem(file, "contains no certificate", "expected CA certificates in PEM or DER");
    }
    for (const auto& der : blocks) {
      read_authority(file, der);
    }
  }
}

// An expired CA is not an error: certificates that it signed are not trusted. It can stay in the
// list until a rotation is complete.
void TrustLoader::read_authority(const File& file, Bytes der) {
  auto certificate = Certificate::parse(der);
  if (!certificate) {
    problem(file, "contains an invalid certificate: " + failure_text(certificate.error()));
    return;
  }
  const Certificate& authority = **certificate;
  if (!authority.has_p256_key()) {
    problem(file,
            fmt::format("is a CA with a key of type {}, not P-256: a token has room for {} bytes "
                        "of certificate and labels, and a certificate signed with RSA-4096 alone "
                        "takes about 1,121",
                        authority.key_text(), wire::kMaxToken),
            kMakeAuthority);
  } else if (!authority.is_authority() ||
             mbedtls_x509_crt_check_key_usage(authority.context(), MBEDTLS_X509_KU_KEY_CERT_SIGN) !=
                 0) {
    problem(
        file,
        fmt::format("contains a certificate of '{}', which is not a CA", authority.subject_text()),
        "'ca' lists CA certificates; 'certificate' is this host's own");
  } else if (authority.constraints().limited()) {
    problem(file,
            "is a CA certificate with label constraints; only host certificates can have them");
  } else {
    authorities_.add(std::move(*certificate));
  }
}

// The file can contain certificates and revocation lists in any order.
void TrustLoader::read_revoked(const File& file) {
  const std::string_view content = file.content;
  const bool pem = content.find("-----BEGIN ") != std::string_view::npos;
  std::size_t found = 0;
  for (const auto& der : read_blocks(file.content, "CERTIFICATE")) {
    if (const auto certificate = Certificate::parse(der)) {
      authorities_.revoke(**certificate);
      found++;
    } else if (pem) {
      problem(file, "contains an invalid certificate: " + failure_text(certificate.error()));
      return;
    }
  }
  for (const auto& der :
       read_blocks(pem || found == 0 ? file.content : std::string(), "X509 CRL")) {
    RevocationContext list;
    if (const int rc = mbedtls_x509_crl_parse_der(list.get(), der.data(), der.size()); rc != 0) {
      problem(file, "contains neither a valid certificate nor a valid revocation list: " +
                        failure_text(rc));
      return;
    }
    if (!authorities_.revoke(*list.get())) {
      problem(file, "is a revocation list that is not signed by any CA in 'ca'");
      return;
    }
    found++;
  }
  if (found == 0) {
    problem(file, "contains neither a certificate nor a revocation list", "expected PEM or DER");
  }
}

void TrustLoader::read_certificate(Keyring& keyring, Random& random) {
  auto key = PrivateKey::parse(material_.key.content, random);
  if (!key) {
    problem(material_.key, key.error().message, key.error().hint);
  }
  auto leaf = read_leaf();
  if (!leaf) {
    return;
  }
  check_leaf(*leaf);
  check_size(material_.certificate, leaf->der().size());
  if (key && !(*key)->belongs_to(*leaf, random)) {
    problem(material_.key, fmt::format("is not the key of '{}'", material_.certificate.path));
  }
  if (const Certificate* issuer = check_issuer(*leaf); issuer != nullptr && key) {
    keyring.set_certificate(std::move(leaf), std::move(*key), *issuer);
  }
}

// Reads the first certificate of a chain. Peers have the others in their own list of CAs.
std::unique_ptr<Certificate> TrustLoader::read_leaf() {
  const auto blocks = read_blocks(material_.certificate.content, "CERTIFICATE");
  if (blocks.empty()) {
    problem(material_.certificate, "contains no certificate", "trirectl pki issue creates one");
    return nullptr;
  }
  auto leaf = Certificate::parse(blocks.front());
  if (!leaf) {
    problem(material_.certificate,
            "contains an invalid certificate: " + failure_text(leaf.error()));
    return nullptr;
  }
  if (!(*leaf)->has_p256_key()) {
    problem(material_.certificate,
            fmt::format("has a key of type {}, not P-256", (*leaf)->key_text()), kMakeAuthority);
    return nullptr;
  }
  if ((*leaf)->is_signed_with_rsa()) {
    problem(material_.certificate,
            fmt::format("is signed with RSA and has {} bytes: a token has room for {} bytes of "
                        "certificate and labels",
                        blocks.front().size(), wire::kMaxToken),
            kMakeAuthority);
    return nullptr;
  }
  return std::move(*leaf);
}

void TrustLoader::check_leaf(const Certificate& leaf) {
  const File& file = material_.certificate;
  if (leaf.context()->version != 3) {
    problem(file,
            fmt::format("is an X.509 certificate of version {}, not 3", leaf.context()->version));
  }
  if (leaf.name().empty()) {
    problem(file, "contains no host name",
            "add a subject alternative name: a DNS name or a SPIFFE URI");
  }
  if (leaf.has_bad_constraints()) {
    problem(file, "has invalid label constraints",
            "write key=value or key=prefix*, each as a UTF8String");
  }
  if (leaf.is_authority()) {
    problem(file, "is a CA certificate, not a host certificate");
  }
  if (!leaf.has_usage()) {
    problem(file, "is not valid for client or server authentication",
            "it needs keyUsage digitalSignature or keyAgreement, and extendedKeyUsage clientAuth "
            "or serverAuth");
  }
  if (!leaf.constraints().permit(material_.host_labels)) {
    problem(
        file,
        fmt::format("does not vouch for the labels of [host]: {}", material_.host_labels.text()),
        "issue a certificate with --labels that cover them");
  }
}

const Certificate* TrustLoader::check_issuer(const Certificate& leaf) {
  const File& file = material_.certificate;
  if (authorities_.has_revoked(leaf)) {
    problem(file, "is revoked");
    return nullptr;
  }
  const auto issuer = authorities_.issuer_of(leaf, now_);
  if (issuer) {
    return *issuer;
  }
  switch (issuer.error()) {
    case Distrust::revoked:
      problem(file, "is revoked");
      break;
    case Distrust::untrusted:
      problem(file, "is not signed by any CA in 'ca'",
              "list the CA that issued it, even if it is an intermediate CA");
      break;
    default:
      problem(file, "could not be verified");
  }
  return nullptr;
}

void TrustLoader::check_size(const File& file, std::size_t size) {
  constexpr std::size_t kLimit = wire::kMaxToken - wire::reply_size(0, wire::kReplyStart);
  const std::size_t labels =  // in a token, each label takes one additional byte
      material_.host_labels.encode().size() + material_.host_labels.items().size();
  if (size + std::max(labels, kRoomForLabels) > kLimit) {
    problem(file,
            fmt::format("does not fit a token: the credential has {} bytes; credential and labels "
                        "together can have at most {} bytes, of which {} are reserved for labels; "
                        "the labels of [host] have {} bytes",
                        size, kLimit, kRoomForLabels, labels),
            "use shorter names in the certificate, or fewer labels");
  }
}

void TrustLoader::read_secrets(Keyring& keyring) {
  const File& file = material_.psk;
  std::vector<SharedSecret> secrets;
  const std::string_view content = file.content;
  const std::size_t problems = problems_.size();
  std::size_t number = 0;
  for (std::size_t at = 0; at < content.size();) {
    const std::size_t end = std::min(content.find('\n', at), content.size());
    std::string_view line = content.substr(at, end - at);
    at = end + 1;
    number++;
    line = line.substr(0, line.find_last_not_of(" \t\r") + 1);
    if (line.empty()) {
      continue;
    }
    std::array<std::uint8_t, kMaxSecret> secret = {};
    std::size_t size = 0;
    const int rc =
        mbedtls_base64_decode(secret.data(), secret.size(), &size,
                              reinterpret_cast<const unsigned char*>(line.data()), line.size());
    if (rc != 0) {
      problem(file, fmt::format("line {} is not base64 of at most {} bytes", number, kMaxSecret),
              "create a secret with trirectl pki psk");
    } else if (size < kMinSecret) {
      problem(
          file,
          fmt::format("line {} has {} bytes; a secret needs at least {}", number, size, kMinSecret),
          "create a secret with trirectl pki psk");
    } else {
      secrets.push_back(shared_secret(Bytes(secret).first(size)));
    }
    wipe(secret);
  }
  if (secrets.empty() && problems_.size() == problems) {
    problem(file, "contains no secret", "create one with trirectl pki psk");
  }
  if (secrets.size() > kMaxSecrets) {
    problem(file, fmt::format("contains {} secrets; at most {} are accepted", secrets.size(),
                              kMaxSecrets));
  }
  const std::string& host = material_.host_name;
  if (host.empty() || host.size() > 64 || !policy::is_printable(host)) {
    problem(file, fmt::format("requires a host name of 1 to 64 bytes, not '{}'", host),
            "set name in [host]");
  }
  check_size(file, sizeof(SecretName) + host.size());
  if (problems_.empty()) {
    keyring.set_secrets(std::move(secrets), host);
  }
}

}  // namespace trireme::credentials
