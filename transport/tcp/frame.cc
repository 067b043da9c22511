// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/tcp/frame.h"

#include <cstring>

#include "transport/tcp/crc32c.h"

namespace penstock::tcp {
namespace {

std::uint32_t checksum_of(const FrameHeader& header) {
  return crc32c(std::as_bytes(std::span(&header, 1)).first(offsetof(FrameHeader, checksum)));
}

bool has_no_target(const FrameHeader& h) {
  return h.incarnation == 0 && h.key == 0 && h.offset == 0;
}

const char* check_handshake(const FrameHeader& h) {
  if (h.flags != 0 || h.key != 0 || h.offset != 0 || h.sequence != 0 || h.ack != 0)
    return "a field a handshake does not use is set";
  if (h.length != (h.type == FrameType::kHello ? sizeof(Token) : 0))
    return "a handshake of the wrong length";
  if (h.incarnation == 0) return "a handshake without an incarnation";
  if (h.immediate == 0 || h.immediate > kMaxSendDepth) return "a send depth out of range";
  return nullptr;
}

const char* check_write(const FrameHeader& h) {
  if ((h.flags & ~kFlagImmediate) != 0) return "an unknown flag is set";
  if ((h.flags & kFlagImmediate) == 0 && h.immediate != 0) return "an immediate without its flag";
  return h.sequence == 0 ? "a write without a sequence" : nullptr;
}

const char* check_read_request(const FrameHeader& h) {
  if (h.flags != 0 || h.immediate != 0) return "a field a read request does not use is set";
  return h.sequence == 0 ? "a read request without a sequence" : nullptr;
}

const char* check_read_response(const FrameHeader& h) {
  if (h.flags != 0 || h.immediate != 0 || !has_no_target(h))
    return "a field a read response does not use is set";
  return h.sequence == 0 ? "a read response without a sequence" : nullptr;
}

const char* check_send(const FrameHeader& h) {
  if (h.flags != 0 || h.immediate != 0 || !has_no_target(h))
    return "a field a message does not use is set";
  if (h.length > kMaxMessageBytes) return "a message longer than allowed";
  return h.sequence == 0 ? "a message without a sequence" : nullptr;
}

const char* check_bare(const FrameHeader& h) {
  if (h.flags != 0 || h.immediate != 0 || !has_no_target(h) || h.length != 0 || h.sequence != 0)
    return "a field this frame does not use is set";
  return nullptr;
}

const char* check_error(const FrameHeader& h) {
  if (h.flags != 0 || !has_no_target(h) || h.length != 0)
    return "a field an error frame does not use is set";
  if (h.immediate == 0 || h.immediate > static_cast<std::uint32_t>(Code::kSystem))
    return "an unknown error code";
  return nullptr;
}

const char* check_fields(const FrameHeader& h) {
  switch (h.type) {
    case FrameType::kHello:
    case FrameType::kWelcome:
      return check_handshake(h);
    case FrameType::kWrite:
      return check_write(h);
    case FrameType::kReadRequest:
      return check_read_request(h);
    case FrameType::kReadResponse:
      return check_read_response(h);
    case FrameType::kSend:
      return check_send(h);
    case FrameType::kAck:
    case FrameType::kClose:
      return check_bare(h);
    case FrameType::kError:
      return check_error(h);
  }
  return "an unknown frame type";
}

}  // namespace

void seal(FrameHeader& header) { header.checksum = checksum_of(header); }

const char* parse_header(std::span<const std::byte> bytes, FrameHeader& header) {
  CHECK(bytes.size() == kHeaderBytes);
  FrameHeader h;
  std::memcpy(&h, bytes.data(), kHeaderBytes);
  if (h.magic != kFrameMagic) return "a frame without the magic number";
  if (h.version != kFrameVersion) return "a frame of another version";
  if (h.checksum != checksum_of(h)) return "a header whose checksum is wrong";
  if (const char* fault = check_fields(h)) return fault;
  header = h;
  return nullptr;
}

bool has_payload(FrameType type) {
  return type == FrameType::kWrite || type == FrameType::kReadResponse ||
         type == FrameType::kSend || type == FrameType::kHello;
}

bool is_counted(FrameType type) {
  return type == FrameType::kWrite || type == FrameType::kReadRequest || type == FrameType::kSend;
}

}  // namespace penstock::tcp
