// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Codecs: gradients in fewer bytes than their elements take. A worker encodes each slice on its
// own, adding first what the last encoding left out (error feedback):
//   residual += gradient;  encoded = Q(residual);  residual −= decode(encoded)
// and the server decodes inside its sum. Parameters are never encoded.

#include <optional>
#include <string_view>

#include "kernels/codec/formats.h"
#include "transport/base/status.h"

namespace penstock {

// kInvalidArgument naming the field and its value: an unknown kind, a threshold that is not a
// positive float32 (for 1bit, not negative), a block that is no power of two from 64 to 4096, a
// fraction outside (0, 1].
Status validate(const CodecSpec& spec);

// "none", "fp8_e4m3", "fp8_e5m2", "int8", "2bit", "1bit", "topk".
std::string_view codec_name(CodecKind kind);
std::optional<CodecKind> parse_codec(std::string_view name);

// What topk sends of `count` ≥ 1 elements: 1 … count.
std::size_t codec_kept(const CodecSpec& spec, std::size_t count);

// Bytes that `count` elements take on the wire; 4 each without a codec. Grows with `count`.
std::size_t encoded_bytes(const CodecSpec& spec, std::size_t count);

}  // namespace penstock
