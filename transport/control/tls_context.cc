// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "transport/control/tls_stream.h"

namespace penstock::control {
namespace {

constexpr std::string_view kLabel = "penstock control tls13 psk 1";

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
  std::unique_ptr<TlsContext> made(new TlsContext());
  PENSTOCK_ASSIGN_OR_RETURN(made->psk_, tls::PskContext::create(secret.bytes(), job, kLabel));
  made->socket_method_.reset(
      BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "penstock socket"));
  BIO_METHOD* method = made->socket_method_.get();
  if (method == nullptr || BIO_meth_set_read(method, socket_read) != 1 ||
      BIO_meth_set_write(method, socket_write) != 1 ||
      BIO_meth_set_ctrl(method, socket_control) != 1)
    return tls::openssl_error("set up the TLS socket");
  return made;
}

SSL* TlsContext::new_connection(Side side) const {
  return side == Side::kAccepting ? psk_->new_accepting() : psk_->new_connecting();
}

}  // namespace penstock::control
