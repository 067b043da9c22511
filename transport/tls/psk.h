// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// TLS 1.3 with a pre-shared key and an ephemeral Diffie-Hellman exchange (RFC 8446 §2.2,
// psk_dhe_ke), by OpenSSL. Nothing else is negotiated: one cipher suite, one group, no
// certificates, tickets, early data or older versions.

#include <openssl/ssl.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "transport/base/status.h"

namespace penstock {

template <auto kFree>
struct OpenSslDelete {
  template <class T>
  void operator()(T* object) const {
    kFree(object);
  }
};

namespace tls {

// What to do about a refusal.
inline constexpr const char* kSecretHint =
    "give every process of the job the same file by PENSTOCK_SECRET_FILE or --secret-file";

// The first byte of a TLS handshake: anything else is no TLS client.
inline constexpr unsigned char kHandshakeRecord = 0x16;

// What the connections of one job share. Must outlive them. Any thread.
class PskContext {
 public:
  // The key is HKDF-SHA256 (RFC 5869) of the secret, with the purpose's label as salt and the job's
  // name as info; the name is also the identity sent in clear. kInvalidArgument for a job name that
  // is empty or longer than 64 bytes. The secret is not kept.
  static Result<std::unique_ptr<PskContext>> create(std::span<const unsigned char> secret,
                                                    const std::string& job, std::string_view label);

  SSL_CTX* get() const { return context_.get(); }  // for further options, before the first use
  // Without a socket yet; the caller owns it.
  SSL* new_connecting() const;
  SSL* new_accepting() const;

 private:
  PskContext() = default;
  Status configure();
  Status make_session(std::span<const unsigned char> secret, std::string_view label);
  static int use_session(SSL* ssl, const EVP_MD* digest, const unsigned char** identity,
                         std::size_t* identity_bytes, SSL_SESSION** session);
  static int find_session(SSL* ssl, const unsigned char* identity, std::size_t identity_bytes,
                          SSL_SESSION** session);

  std::string identity_;
  std::unique_ptr<SSL_CTX, OpenSslDelete<SSL_CTX_free>> context_;
  std::unique_ptr<SSL_SESSION, OpenSslDelete<SSL_SESSION_free>> session_;  // holds the key
};

// After the handshake: whether the peer proved that it has the key.
bool peer_has_key(SSL* ssl);
// Whether OpenSSL's `error` is the peer's alert that it does not know our key or identity.
bool is_refusal(unsigned long error);
// kSystem, with OpenSSL's last reason.
Status openssl_error(const char* what);

}  // namespace tls
}  // namespace penstock
