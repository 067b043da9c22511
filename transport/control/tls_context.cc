// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "transport/control/tls_stream.h"

namespace penstock::control {
namespace {

constexpr std::size_t kKeyBytes = 32;     // the output of SHA-256
constexpr std::size_t kMaxJobBytes = 64;  // OpenSSL 3.0 takes identities up to 128 bytes
constexpr char kSuite[] = "TLS_AES_128_GCM_SHA256";
constexpr unsigned char kSuiteId[] = {0x13, 0x01};  // RFC 8446 §B.4

Status openssl_error(const char* what) {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  return {Code::kSystem, fmt::format("{}: {}", what, reason == nullptr ? "failed" : reason)};
}

Status derive_key(const Secret& secret, const std::string& job, std::span<unsigned char> key) {
  static constexpr std::string_view kLabel = "penstock control tls13 psk 1";
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
      octets(OSSL_KDF_PARAM_KEY, secret.bytes().data(), secret.bytes().size()),
      octets(OSSL_KDF_PARAM_SALT, kLabel.data(), kLabel.size()),
      octets(OSSL_KDF_PARAM_INFO, job.data(), job.size()),
      OSSL_PARAM_construct_end(),
  };
  if (context == nullptr || EVP_KDF_derive(context.get(), key.data(), key.size(), parameters) != 1)
    return openssl_error("derive the control key");
  return {};
}

bool again(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

int socket_read(BIO* bio, char* to, int size) {
  auto& socket = *static_cast<TlsSocket*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  const std::size_t count = std::min(static_cast<std::size_t>(size), socket.allowance);
  socket.over_allowance = count == 0;
  if (count == 0) return -1;
  const ssize_t got = ::recv(socket.fd, to, count, 0);
  if (got > 0) socket.allowance -= static_cast<std::size_t>(got);
  if (got == 0) socket.ended = true;
  if (got < 0 && again(errno))
    BIO_set_retry_read(bio);
  else if (got < 0)
    socket.error = errno;
  return static_cast<int>(got);
}

int socket_write(BIO* bio, const char* from, int size) {
  auto& socket = *static_cast<TlsSocket*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  const ssize_t put = ::send(socket.fd, from, static_cast<std::size_t>(size), MSG_NOSIGNAL);
  if (put < 0 && again(errno))
    BIO_set_retry_write(bio);
  else if (put < 0)
    socket.error = errno;
  return static_cast<int>(put);
}

long socket_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

}  // namespace

Result<std::unique_ptr<TlsContext>> TlsContext::create(const Secret& secret,
                                                       const std::string& job) {
  if (job.empty() || job.size() > kMaxJobBytes)
    return Status(Code::kInvalidArgument,
                  fmt::format("a job name has 1 to {} bytes, not {}", kMaxJobBytes, job.size()));
  std::unique_ptr<TlsContext> made(new TlsContext());
  made->identity_ = job;
  made->socket_method_.reset(
      BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "penstock socket"));
  BIO_METHOD* method = made->socket_method_.get();
  if (method == nullptr || BIO_meth_set_read(method, socket_read) != 1 ||
      BIO_meth_set_write(method, socket_write) != 1 ||
      BIO_meth_set_ctrl(method, socket_control) != 1)
    return openssl_error("set up the TLS socket");
  PENSTOCK_RETURN_IF_ERROR(made->configure());
  PENSTOCK_RETURN_IF_ERROR(made->make_session(secret));
  return made;
}

Status TlsContext::configure() {
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

Status TlsContext::make_session(const Secret& secret) {
  std::array<unsigned char, kKeyBytes> key{};
  Status derived = derive_key(secret, identity_, key);
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

SSL* TlsContext::new_connection(Side side) const {
  SSL* ssl = SSL_new(context_.get());
  CHECK(ssl != nullptr, "no memory for a TLS connection");
  if (side == Side::kAccepting) {
    SSL_set_accept_state(ssl);
    return ssl;
  }
  SSL_set_connect_state(ssl);
  // With no authority trusted, a peer that offers a certificate instead of the key is refused.
  SSL_set_verify(ssl, SSL_VERIFY_PEER, nullptr);
  return ssl;
}

// The connecting side: what to offer.
int TlsContext::use_session(SSL* ssl, const EVP_MD*, const unsigned char** identity,
                            std::size_t* identity_bytes, SSL_SESSION** session) {
  const auto& self = *static_cast<TlsContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  *identity = reinterpret_cast<const unsigned char*>(self.identity_.data());
  *identity_bytes = self.identity_.size();
  *session = SSL_SESSION_dup(self.session_.get());  // OpenSSL may write to what it is given
  return *session != nullptr ? 1 : 0;
}

// The accepting side: the key of the one identity there is; without it the handshake fails for
// want of a certificate.
int TlsContext::find_session(SSL* ssl, const unsigned char* identity, std::size_t identity_bytes,
                             SSL_SESSION** session) {
  const auto& self = *static_cast<TlsContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  *session = nullptr;
  if (identity_bytes != self.identity_.size() ||
      std::memcmp(identity, self.identity_.data(), identity_bytes) != 0)
    return 1;
  *session = SSL_SESSION_dup(self.session_.get());  // OpenSSL may write to what it is given
  return *session != nullptr ? 1 : 0;
}

}  // namespace penstock::control
