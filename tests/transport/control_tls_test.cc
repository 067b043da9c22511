// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Other people's TLS against our hubs: nothing but TLS 1.3 with our key gets anywhere.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include <thread>

#include "tests/transport/control_support.h"
#include "transport/control/tls_stream.h"

namespace penstock::control {
namespace {

using Context = std::unique_ptr<SSL_CTX, OpenSslDelete<SSL_CTX_free>>;
using Connection = std::unique_ptr<SSL, OpenSslDelete<SSL_free>>;

unsigned old_style_key(SSL*, const char*, char* identity, unsigned, unsigned char* key, unsigned) {
  std::snprintf(identity, 4, "job");
  for (int i = 0; i < 16; ++i) key[i] = 7;
  return 16;
}

class ControlTls : public testing::Test {
 protected:
  // What a foreign client gets: the reason its handshake failed, 0 if it did not.
  int handshake_of(const Context& context) {
    const Stranger socket(address_);
    const Connection ssl(SSL_new(context.get()));
    SSL_set_fd(ssl.get(), socket.fd());
    int done = 0;
    // A blocking client beside the polled server.
    std::thread client([&] {
      done = SSL_connect(ssl.get());
      reason_ = ERR_GET_REASON(ERR_peek_error());
      ERR_clear_error();
    });
    settle({&server_});
    clock_.advance(5 * kSecond);
    settle({&server_});
    client.join();
    EXPECT_TRUE(server_.accepted.empty());
    return done == 1 ? 0 : reason_;
  }

  const Secret secret_ = Secret::random();
  LogCapture log_;
  ManualClock clock_;
  Party server_{with_secret(secret_), clock_};
  const std::string address_ = server_.listen();
  int reason_ = 0;
};

TEST_F(ControlTls, RefusesAClientOfAnOlderVersion) {
  const Context context(SSL_CTX_new(TLS_client_method()));
  ASSERT_EQ(SSL_CTX_set_max_proto_version(context.get(), TLS1_2_VERSION), 1);
  EXPECT_EQ(handshake_of(context), SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
  // With an old-style key too.
  SSL_CTX_set_psk_client_callback(context.get(), old_style_key);
  EXPECT_EQ(handshake_of(context), SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
}

TEST_F(ControlTls, RefusesAClientWithoutAKey) {
  const Context context(SSL_CTX_new(TLS_client_method()));
  EXPECT_NE(handshake_of(context), 0);
}

TEST_F(ControlTls, RefusesAClientWithAnotherSuite) {
  const Context context(SSL_CTX_new(TLS_client_method()));
  ASSERT_EQ(SSL_CTX_set_ciphersuites(context.get(), "TLS_CHACHA20_POLY1305_SHA256"), 1);
  EXPECT_EQ(handshake_of(context), SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE);
}

// A server that has a certificate instead of the secret.
Context certified_server() {
  Context context(SSL_CTX_new(TLS_server_method()));
  const std::unique_ptr<EVP_PKEY, OpenSslDelete<EVP_PKEY_free>> key(EVP_EC_gen("P-256"));
  const std::unique_ptr<X509, OpenSslDelete<X509_free>> certificate(X509_new());
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key.get());
  EXPECT_GT(X509_sign(certificate.get(), key.get(), EVP_sha256()), 0);
  EXPECT_EQ(SSL_CTX_use_certificate(context.get(), certificate.get()), 1);
  EXPECT_EQ(SSL_CTX_use_PrivateKey(context.get(), key.get()), 1);
  return context;
}

TEST_F(ControlTls, DoesNotTrustAServerWithACertificate) {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SocketAddress any = resolve("127.0.0.1:0").value().front();
  ASSERT_EQ(::bind(listener.get(), any.get(), any.length), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  Party client(with_secret(secret_), clock_);
  const std::string address = to_text(local_address(listener.get()));
  ASSERT_TRUE(client.hub->connect(address, clock_.now_ns() + kSecond).ok());
  const Context context = certified_server();
  std::thread server([&] {
    const UniqueFd socket(::accept(listener.get(), nullptr, nullptr));
    const Connection ssl(SSL_new(context.get()));
    SSL_set_fd(ssl.get(), socket.get());
    (void)SSL_accept(ssl.get());
  });
  EXPECT_TRUE(until({&client}, [&] { return !client.closed.empty(); }));
  server.join();
  EXPECT_TRUE(client.connected.empty());
  EXPECT_EQ(client.closed_with().code(), Code::kUnauthenticated)
      << client.closed_with().to_string();
}

}  // namespace
}  // namespace penstock::control
