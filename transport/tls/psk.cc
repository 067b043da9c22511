// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/psk.h"

#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <array>
#include <cstring>

#include "transport/base/check.h"

namespace penstock::tls {
namespace {

constexpr std::size_t kKeyBytes = 32;     // the output of SHA-256
constexpr std::size_t kMaxJobBytes = 64;  // OpenSSL 3.0 takes identities up to 128 bytes
constexpr char kSuite[] = "TLS_AES_128_GCM_SHA256";
constexpr unsigned char kSuiteId[] = {0x13, 0x01};  // RFC 8446 §B.4

Status derive_key(std::span<const unsigned char> secret, const std::string& job,
                  std::string_view label, std::span<unsigned char> key) {
  const std::unique_ptr<EVP_KDF, OpenSslDelete<EVP_KDF_free>> kdf(
      EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  const std::unique_ptr<EVP_KDF_CTX, OpenSslDelete<EVP_KDF_CTX_free>> context(
      EVP_KDF_CTX_new(kdf.get()));
  const auto octets = [](const char* name, const void* bytes, std::size_t size) {
    return OSSL_PARAM_construct_octet_string(name, const_cast<void*>(bytes), size);
  };
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      octets(OSSL_KDF_PARAM_KEY, secret.data(), secret.size()),
      octets(OSSL_KDF_PARAM_SALT, label.data(), label.size()),
      octets(OSSL_KDF_PARAM_INFO, job.data(), job.size()),
      OSSL_PARAM_construct_end(),
  };
  if (context == nullptr || EVP_KDF_derive(context.get(), key.data(), key.size(), parameters) != 1)
    return openssl_error("derive the TLS key");
  return {};
}

}  // namespace

Status openssl_error(const char* what) {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  return {Code::kSystem, fmt::format("{}: {}", what, reason == nullptr ? "failed" : reason)};
}

Result<std::unique_ptr<PskContext>> PskContext::create(std::span<const unsigned char> secret,
                                                       const std::string& job,
                                                       std::string_view label) {
  if (job.empty() || job.size() > kMaxJobBytes)
    return Status(Code::kInvalidArgument,
                  fmt::format("a job name has 1 to {} bytes, not {}", kMaxJobBytes, job.size()));
  std::unique_ptr<PskContext> made(new PskContext());
  made->identity_ = job;
  PENSTOCK_RETURN_IF_ERROR(made->configure());
  PENSTOCK_RETURN_IF_ERROR(made->make_session(secret, label));
  return made;
}

Status PskContext::configure() {
  context_.reset(SSL_CTX_new(TLS_method()));
  SSL_CTX* c = context_.get();
  if (c == nullptr || SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(c, kSuite) != 1 || SSL_CTX_set1_groups_list(c, "X25519") != 1 ||
      SSL_CTX_set_num_tickets(c, 0) != 1)
    return openssl_error("set up TLS 1.3");
  SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_clear_options(c, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
  // The send queue may move between two attempts to write the same bytes.
  SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_app_data(c, this);
  SSL_CTX_set_psk_use_session_callback(c, use_session);
  SSL_CTX_set_psk_find_session_callback(c, find_session);
  return {};
}

Status PskContext::make_session(std::span<const unsigned char> secret, std::string_view label) {
  std::array<unsigned char, kKeyBytes> key{};
  Status derived = derive_key(secret, identity_, label, key);
  const std::unique_ptr<SSL, OpenSslDelete<SSL_free>> ssl(SSL_new(context_.get()));
  session_.reset(SSL_SESSION_new());
  const SSL_CIPHER* suite = ssl == nullptr ? nullptr : SSL_CIPHER_find(ssl.get(), kSuiteId);
  const bool made = derived.ok() && suite != nullptr && session_ != nullptr &&
                    SSL_SESSION_set1_master_key(session_.get(), key.data(), key.size()) == 1 &&
                    SSL_SESSION_set_cipher(session_.get(), suite) == 1 &&
                    SSL_SESSION_set_protocol_version(session_.get(), TLS1_3_VERSION) == 1;
  OPENSSL_cleanse(key.data(), key.size());
  if (!derived.ok()) return derived;
  return made ? Status() : openssl_error("set up the pre-shared key");
}

SSL* PskContext::new_accepting() const {
  SSL* ssl = SSL_new(context_.get());
  CHECK(ssl != nullptr, "no memory for a TLS connection");
  SSL_set_accept_state(ssl);
  return ssl;
}

SSL* PskContext::new_connecting() const {
  SSL* ssl = SSL_new(context_.get());
  CHECK(ssl != nullptr, "no memory for a TLS connection");
  SSL_set_connect_state(ssl);
  // With no authority trusted, a peer that offers a certificate instead of the key is refused.
  SSL_set_verify(ssl, SSL_VERIFY_PEER, nullptr);
  return ssl;
}

// The connecting side: what to offer.
int PskContext::use_session(SSL* ssl, const EVP_MD*, const unsigned char** identity,
                            std::size_t* identity_bytes, SSL_SESSION** session) {
  const auto& self = *static_cast<PskContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  *identity = reinterpret_cast<const unsigned char*>(self.identity_.data());
  *identity_bytes = self.identity_.size();
  *session = SSL_SESSION_dup(self.session_.get());  // OpenSSL may write to what it is given
  return *session != nullptr ? 1 : 0;
}

// The accepting side: the key of the one identity there is; without it the handshake fails for
// want of a certificate.
int PskContext::find_session(SSL* ssl, const unsigned char* identity, std::size_t identity_bytes,
                             SSL_SESSION** session) {
  const auto& self = *static_cast<PskContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  *session = nullptr;
  if (identity_bytes != self.identity_.size() ||
      std::memcmp(identity, self.identity_.data(), identity_bytes) != 0)
    return 1;
  *session = SSL_SESSION_dup(self.session_.get());  // OpenSSL may write to what it is given
  return *session != nullptr ? 1 : 0;
}

bool peer_has_key(SSL* ssl) {
  return SSL_session_reused(ssl) == 1 && SSL_version(ssl) == TLS1_3_VERSION;
}

bool is_refusal(unsigned long error) {
  const int alert = ERR_GET_REASON(error) - SSL_AD_REASON_OFFSET;
  return alert == SSL_AD_HANDSHAKE_FAILURE || alert == SSL_AD_ILLEGAL_PARAMETER ||
         alert == SSL_AD_DECRYPT_ERROR || alert == SSL_AD_UNKNOWN_PSK_IDENTITY ||
         alert == SSL_AD_BAD_RECORD_MAC;
}

}  // namespace penstock::tls
