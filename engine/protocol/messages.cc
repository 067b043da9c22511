// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/protocol/messages.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/protocol/limits.h"

namespace penstock {
namespace {

Status malformed(std::string_view what) {
  return {Code::kProtocol, fmt::format("control message: {}", what)};
}

template <class Enum>
bool in_range(std::uint8_t value, Enum last) {
  return value <= static_cast<std::uint8_t>(last);
}

template <class Out, class In>
Result<std::vector<Out>> convert_all(const std::vector<std::unique_ptr<In>>& in) {
  std::vector<Out> out;
  out.reserve(in.size());
  for (const auto& item : in) {
    PENSTOCK_ASSIGN_OR_RETURN(Out converted, from_wire(item));
    out.push_back(std::move(converted));
  }
  return out;
}

Result<InitializerSpec> initializer_from_wire(const std::unique_ptr<wire::InitializerT>& in) {
  if (!in || !in_range(in->kind, InitializerSpec::kNormal)) return malformed("unknown initializer");
  InitializerSpec out;
  out.kind = static_cast<InitializerSpec::Kind>(in->kind);
  out.a = in->a;
  out.b = in->b;
  out.seed = in->seed;
  return out;
}

Result<CodecSpec> codec_from_wire(const std::unique_ptr<wire::CodecT>& in) {
  if (!in) return CodecSpec();
  if (!in_range(in->kind, CodecKind::kTopK)) return malformed("unknown codec");
  return CodecSpec{static_cast<CodecKind>(in->kind), in->threshold, in->block, in->fraction};
}

// FlatBuffers' verifier lets 64-bit elements start at any multiple of four bytes; ours do not.
template <class Number>
bool is_aligned(const flatbuffers::Vector<Number>* numbers) {
  return numbers == nullptr || reinterpret_cast<std::uintptr_t>(numbers->Data()) % 8 == 0;
}
bool is_aligned(const wire::Declaration& declaration) { return is_aligned(declaration.shape()); }
bool is_aligned(const wire::Buffer& buffer) {
  return buffer.region() == nullptr || is_aligned(buffer.region()->keys());
}

bool is_aligned(const wire::NormPart& part) { return is_aligned(part.values()); }

template <class Table>
bool is_aligned(const flatbuffers::Vector<flatbuffers::Offset<Table>>* tables) {
  return tables == nullptr || std::all_of(tables->begin(), tables->end(),
                                          [](const Table* table) { return is_aligned(*table); });
}

bool is_aligned(const wire::Message& message) {
  if (const auto* call = message.body_as_Collective())
    return is_aligned(call->keys()) && is_aligned(call->declarations());
  if (const auto* commit = message.body_as_Commit())
    return is_aligned(commit->keys()) && is_aligned(commit->declarations());
  if (const auto* open = message.body_as_OpenLane()) return is_aligned(open->next());
  if (const auto* opened = message.body_as_LaneOpened()) return is_aligned(opened->next());
  if (const auto* lend = message.body_as_Lend())
    return is_aligned(lend->parameters()) && is_aligned(lend->gradients());
  if (const auto* grant = message.body_as_Grant())
    return is_aligned(grant->slots()) && is_aligned(grant->masters()) &&
           is_aligned(grant->copies());
  if (const auto* norms = message.body_as_NormPartials()) return is_aligned(norms->parts());
  return true;
}

}  // namespace

std::vector<std::byte> encode(const wire::MessageT& message) {
  flatbuffers::FlatBufferBuilder builder(512);
  builder.Finish(wire::Message::Pack(builder, &message), wire::MessageIdentifier());
  const auto* data = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
  return {data, data + builder.GetSize()};
}

Result<wire::MessageT> decode(std::span<const std::byte> frame) {
  // A frame lies anywhere in a stream's buffer; numbers in it are read where they lie.
  std::vector<std::uint64_t> storage((frame.size() + 7) / 8);
  std::copy(frame.begin(), frame.end(), std::as_writable_bytes(std::span(storage)).begin());
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(storage.data());
  // Our messages nest four deep; a declaration batch has five tables per key.
  flatbuffers::Verifier verifier(bytes, frame.size(), 8, 6 * kMaxDeclarationsPerCall);
  if (frame.size() < 12 || !wire::VerifyMessageBuffer(verifier))
    return malformed(fmt::format("{} bytes that do not verify", frame.size()));
  const wire::Message* root = wire::GetMessage(bytes);
  if (root->body_type() == wire::Body::NONE || root->body_type() > wire::Body::MAX ||
      root->body() == nullptr || !is_aligned(*root))
    return malformed("no known body");
  wire::MessageT message;
  root->UnPackTo(&message);
  return message;
}

std::unique_ptr<wire::ErrorT> to_wire(const Status& status) {
  auto out = std::make_unique<wire::ErrorT>();
  out->code = static_cast<std::uint8_t>(status.code());
  out->what = status.what();
  out->peer = status.peer();
  out->hint = status.hint();
  return out;
}

Status from_wire(const std::unique_ptr<wire::ErrorT>& error) {
  if (!error || error->code == 0) return {};
  const Code code =
      in_range(error->code, Code::kNotFinite) ? static_cast<Code>(error->code) : Code::kProtocol;
  return Status(code, error->what).with_peer(error->peer).with_hint(error->hint);
}

std::unique_ptr<wire::MemberT> to_wire(const Member& member) {
  auto out = std::make_unique<wire::MemberT>();
  out->role = static_cast<wire::Role>(member.role);
  out->rank = member.rank;
  out->incarnation = member.incarnation;
  out->name = member.name;
  out->control_address = member.control_address;
  out->data_address = member.data_address;
  return out;
}

Result<Member> from_wire(const std::unique_ptr<wire::MemberT>& member) {
  if (!member || member->role > wire::Role::MAX || member->incarnation == 0 ||
      member->name.size() > kMaxNameBytes)
    return malformed("a member that makes no sense");
  return Member{
      static_cast<Role>(member->role), member->rank,        member->incarnation, member->name,
      member->control_address,         member->data_address};
}

std::unique_ptr<wire::BufferT> to_wire(const RemoteBuffer& buffer) {
  auto region = std::make_unique<wire::RegionT>();
  region->providers = buffer.region.providers;
  region->maps = buffer.region.maps;
  region->version = buffer.region.version;
  region->rails = buffer.region.rails;
  region->incarnation = buffer.region.incarnation;
  region->base = buffer.region.base;
  region->length = buffer.region.length;
  region->keys.assign(buffer.region.key.begin(), buffer.region.key.end());
  auto out = std::make_unique<wire::BufferT>();
  out->region = std::move(region);
  out->offset = buffer.offset;
  return out;
}

Result<RemoteBuffer> from_wire(const std::unique_ptr<wire::BufferT>& buffer) {
  if (!buffer || !buffer->region) return malformed("a buffer without a region");
  const wire::RegionT& region = *buffer->region;
  if (region.version != RemoteRegion::kVersion || region.keys.size() != kRegionKeys)
    return malformed("a region descriptor of another version");
  if (buffer->offset > region.length) return malformed("a buffer outside its region");
  RemoteBuffer out;
  out.region.providers = region.providers;
  out.region.maps = region.maps;
  out.region.rails = region.rails;
  out.region.incarnation = region.incarnation;
  out.region.base = region.base;
  out.region.length = region.length;
  std::copy_n(region.keys.begin(), kRegionKeys, out.region.key.begin());
  out.offset = buffer->offset;
  return out;
}

std::unique_ptr<wire::DeclarationT> to_wire(const Declaration& declaration) {
  const TensorSpec& spec = declaration.spec;
  auto out = std::make_unique<wire::DeclarationT>();
  out->key = declaration.key;
  out->name = spec.name;
  out->shape = spec.shape;
  out->gradient_dtype = static_cast<std::uint8_t>(spec.gradient_dtype);
  out->parameter_dtype = static_cast<std::uint8_t>(spec.parameter_dtype);
  out->reduce = static_cast<std::uint8_t>(spec.reduce);
  out->priority = spec.priority;
  out->from_worker_0 = spec.from_worker_0;
  out->not_finite = static_cast<std::uint8_t>(spec.not_finite);
  out->gradient_scale = spec.gradient_scale;
  out->optimizer = to_wire(spec.optimizer);
  out->initializer = std::make_unique<wire::InitializerT>();
  out->initializer->kind = static_cast<std::uint8_t>(spec.initializer.kind);
  out->initializer->a = spec.initializer.a;
  out->initializer->b = spec.initializer.b;
  out->initializer->seed = spec.initializer.seed;
  if (!spec.encoded()) return out;
  out->codec = std::make_unique<wire::CodecT>();
  out->codec->kind = static_cast<std::uint8_t>(spec.codec.kind);
  out->codec->threshold = spec.codec.threshold;
  out->codec->block = spec.codec.block;
  out->codec->fraction = spec.codec.fraction;
  return out;
}

Result<Declaration> from_wire(const std::unique_ptr<wire::DeclarationT>& in) {
  if (!in || !in_range(in->gradient_dtype, DType::kBfloat16) ||
      !in_range(in->parameter_dtype, DType::kBfloat16) || !in_range(in->reduce, Reduce::kMean) ||
      !in_range(in->not_finite, NotFinite::kFail))
    return malformed("a declaration with an unknown dtype, reduction or policy");
  Declaration out;
  out.key = in->key;
  out.spec.name = in->name;
  out.spec.shape = in->shape;
  out.spec.gradient_dtype = static_cast<DType>(in->gradient_dtype);
  out.spec.parameter_dtype = static_cast<DType>(in->parameter_dtype);
  out.spec.reduce = static_cast<Reduce>(in->reduce);
  out.spec.priority = in->priority;
  out.spec.from_worker_0 = in->from_worker_0;
  out.spec.not_finite = static_cast<NotFinite>(in->not_finite);
  out.spec.gradient_scale = in->gradient_scale;
  PENSTOCK_ASSIGN_OR_RETURN(out.spec.optimizer, from_wire(in->optimizer));
  PENSTOCK_ASSIGN_OR_RETURN(out.spec.initializer, initializer_from_wire(in->initializer));
  PENSTOCK_ASSIGN_OR_RETURN(out.spec.codec, codec_from_wire(in->codec));
  PENSTOCK_RETURN_IF_ERROR(validate(out));
  return out;
}

Result<std::vector<Declaration>> from_wire(
    const std::vector<std::unique_ptr<wire::DeclarationT>>& declarations) {
  if (declarations.size() > kMaxDeclarationsPerCall) return malformed("too many declarations");
  return convert_all<Declaration>(declarations);
}

Result<std::vector<RemoteBuffer>> from_wire(
    const std::vector<std::unique_ptr<wire::BufferT>>& buffers) {
  return convert_all<RemoteBuffer>(buffers);
}

Result<std::vector<Member>> from_wire(const std::vector<std::unique_ptr<wire::MemberT>>& members) {
  return convert_all<Member>(members);
}

Result<Token> token_from_wire(const std::vector<std::uint8_t>& bytes) {
  Token token{};
  if (bytes.size() != token.size()) return malformed("a token of another size");
  std::copy(bytes.begin(), bytes.end(), token.begin());
  return token;
}

}  // namespace penstock
