// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Control messages as plain structs (generated from messages.fbs) and their checked conversion from
// and to bytes and the engine's own types. Whatever decode() returns is structurally sound; the
// from_wire() functions check meaning.

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "engine/protocol/messages_generated.h"
#include "engine/protocol/tensor_spec.h"
#include "transport/base/status.h"

namespace penstock {

inline constexpr std::uint16_t kWireVersion = 2;

// The bytes of one frame. `Body` is any table of the union, as its generated object (…T).
std::vector<std::byte> encode(const wire::MessageT& message);

template <class Body>
std::vector<std::byte> encode_body(Body body) {
  wire::MessageT message;
  message.body.Set(std::move(body));
  return encode(message);
}

// Verifies, then unpacks. kProtocol for anything a correct peer does not send.
Result<wire::MessageT> decode(std::span<const std::byte> frame);

std::unique_ptr<wire::ErrorT> to_wire(const Status& status);
std::unique_ptr<wire::MemberT> to_wire(const Member& member);
std::unique_ptr<wire::BufferT> to_wire(const RemoteBuffer& buffer);
std::unique_ptr<wire::DeclarationT> to_wire(const Declaration& declaration);
std::unique_ptr<wire::OptimizerT> to_wire(const OptimizerSpec& spec);

// nullptr (an absent field) gives OK.
Status from_wire(const std::unique_ptr<wire::ErrorT>& error);
Result<Member> from_wire(const std::unique_ptr<wire::MemberT>& member);
Result<RemoteBuffer> from_wire(const std::unique_ptr<wire::BufferT>& buffer);
Result<Declaration> from_wire(const std::unique_ptr<wire::DeclarationT>& declaration);
Result<OptimizerSpec> from_wire(const std::unique_ptr<wire::OptimizerT>& optimizer);

Result<std::vector<Declaration>> from_wire(
    const std::vector<std::unique_ptr<wire::DeclarationT>>& declarations);
Result<std::vector<RemoteBuffer>> from_wire(
    const std::vector<std::unique_ptr<wire::BufferT>>& buffers);
Result<std::vector<Member>> from_wire(const std::vector<std::unique_ptr<wire::MemberT>>& members);
Result<Token> token_from_wire(const std::vector<std::uint8_t>& bytes);

}  // namespace penstock
