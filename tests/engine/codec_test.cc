// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Gradients that are encoded on their way to the servers.

#include <gtest/gtest.h>

#include "engine/protocol/messages.h"
#include "engine/protocol/slice.h"
#include "kernels/codec/codec_text.h"
#include "tests/engine/hand_job.h"
#include "transport/base/random.h"

namespace penstock::test {
namespace {

constexpr std::uint64_t kSliceBytes = 4096;
constexpr Rank kWorkers = 2;

// Three slices, the last of an odd length.
constexpr std::uint64_t kElements = 3 * kSliceBytes / sizeof(float) - 5;

float gradient_of(Rank worker, Round round, std::uint64_t element) {
  const std::uint64_t mixed = SeededRandom::mix(worker << 20 ^ round << 40 ^ element);
  return static_cast<float>(mixed % 2001) * 0.001F - 1;
}

// What one worker sends, slice by slice, by the scalar kernels.
class ReferenceWorker {
 public:
  ReferenceWorker(const CodecSpec& codec, std::uint64_t elements)
      : codec_(codec), residual_(elements) {}

  std::vector<float> send(const std::vector<float>& gradient) {
    const CodecKernels& codecs = *find_kernels("scalar")->codecs;
    std::vector<float> sent(gradient.size());
    for (const Slice& slice : cut(gradient.size(), sizeof(float), kSliceBytes)) {
      std::vector<std::byte> bytes(encoded_bytes(codec_, slice.count));
      codecs.encode(codec_, gradient.data() + slice.begin, residual_.data() + slice.begin,
                    bytes.data(), slice.count);
      codecs.decode(codec_, bytes.data(), sent.data() + slice.begin, slice.count);
    }
    return sent;
  }

 private:
  CodecSpec codec_;
  std::vector<float> residual_;
};

struct Buffers {
  explicit Buffers(std::uint64_t elements) : gradients(elements), parameters(elements) {}
  Tensor tensor(const CodecSpec& codec) {
    Tensor tensor;
    tensor.key = 1;
    tensor.spec.shape = {gradients.size()};
    tensor.spec.optimizer = default_optimizer(OptimizerKind::kSgd);
    tensor.spec.optimizer.learning_rate = 0.5;
    tensor.spec.codec = codec;
    tensor.gradients = std::as_writable_bytes(std::span(gradients));
    tensor.parameters = std::as_writable_bytes(std::span(parameters));
    return tensor;
  }
  std::vector<float> gradients, parameters;
};

Declaration declared(const char* codec) {
  Declaration declaration;
  declaration.key = 7;
  declaration.spec.name = "w";
  declaration.spec.shape = {4};
  declaration.spec.codec = *parse_codec_spec(codec);
  return declaration;
}

HandJobOptions job_options(const char* transport) {
  HandJobOptions options;
  options.transport = transport;
  options.workers = kWorkers;
  options.servers = 2;
  options.lanes = 2;
  options.slice_bytes = kSliceBytes;
  return options;
}

// Rounds of both workers; in round 3 worker 1 has nothing to add, and keeps what it kept back.
void expect_rounds_of_the_reference(HandJob& job, const CodecSpec& codec, std::uint64_t elements) {
  std::vector<Buffers> buffers(kWorkers, Buffers(elements));
  std::vector<ReferenceWorker> reference(kWorkers, ReferenceWorker(codec, elements));
  std::vector<float> expected(elements, 2.0F);
  buffers[0].parameters = expected;
  std::vector<Ticket> tickets;
  for (Rank rank = 0; rank < kWorkers; ++rank)
    tickets.push_back(job.worker(rank).begin_declare({buffers[rank].tensor(codec)}));
  for (Rank rank = 0; rank < kWorkers; ++rank) {
    const Status declared = job.finish(rank, tickets[rank]);
    ASSERT_TRUE(declared.ok()) << declared.to_string();
  }
  for (Round round = 1; round <= 5; ++round) {
    std::vector<float> sum(elements);
    for (Rank rank = 0; rank < kWorkers; ++rank) {
      for (std::uint64_t i = 0; i < elements; ++i)
        buffers[rank].gradients[i] = gradient_of(rank, round, i);
      if (round == 3 && rank == 1) {
        ASSERT_TRUE(job.worker(rank).push_nothing(1, round).ok());
        continue;
      }
      ASSERT_TRUE(job.worker(rank).push_pull(1, round).ok());
      const std::vector<float> sent = reference[rank].send(buffers[rank].gradients);
      for (std::uint64_t i = 0; i < elements; ++i) sum[i] = rank == 0 ? sent[i] : sum[i] + sent[i];
    }
    ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, round); }));
    for (std::uint64_t i = 0; i < elements; ++i) expected[i] -= 0.5F * (sum[i] * 0.5F);
    for (const Buffers& got : buffers)
      for (std::uint64_t i = 0; i < elements; ++i)
        ASSERT_EQ(got.parameters[i], expected[i])
            << codec_text(codec) << " round " << round << " element " << i << " of " << elements;
  }
}

TEST(EncodedGradients, ArriveAsTheReferenceDecodesThem) {
  for (const char* transport : {"loopback", "shm", "tcp"})
    for (const char* text : {"2bit:threshold=0.25", "1bit", "int8:block=64", "fp8_e4m3:block=128",
                             "fp8_e5m2", "topk:fraction=0.1", "topk:fraction=1"})
      for (const std::uint64_t elements : {kElements, std::uint64_t{1}}) {
        HandJob job(job_options(transport));
        expect_rounds_of_the_reference(job, *parse_codec_spec(text), elements);
      }
}

// Memory that servers could map is not read in place: it holds the gradients before the codec.
TEST(EncodedGradients, AreNotReadWhereTheWorkerHasThem) {
  HandJob job(job_options("shm"));
  const CodecSpec codec = *parse_codec_spec("2bit");
  std::vector<Buffers> buffers(kWorkers, Buffers(kElements));
  std::vector<std::shared_ptr<const MemoryRegion>> memory;
  std::vector<Ticket> tickets;
  for (Rank rank = 0; rank < kWorkers; ++rank) {
    memory.push_back(job.worker(rank).allocate(kElements * sizeof(float)).value());
    Tensor tensor = buffers[rank].tensor(codec);
    tensor.gradients = memory[rank]->bytes().first(kElements * sizeof(float));
    tickets.push_back(job.worker(rank).begin_declare({tensor}));
  }
  for (Rank rank = 0; rank < kWorkers; ++rank) ASSERT_TRUE(job.finish(rank, tickets[rank]).ok());
  for (Round round = 1; round <= 4; ++round) {
    for (Rank rank = 0; rank < kWorkers; ++rank) {
      auto* const gradients = reinterpret_cast<float*>(memory[rank]->bytes().data());
      std::fill_n(gradients, kElements, 0.75F);
      ASSERT_TRUE(job.worker(rank).push_pull(1, round).ok());
    }
    ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, round); }));
  }
  EXPECT_EQ(job.server(0).gradients_in_place() + job.server(1).gradients_in_place(), 0U);
  // 0.5 each in every round; 0.25, 0.5, 0.75 and 1 are kept back in turn.
  EXPECT_EQ(buffers[1].parameters[kElements - 1], -1.0F);
}

TEST(EncodedGradients, TakeTheBytesOfTheCodecInTheSlots) {
  TensorSpec spec;
  spec.codec = *parse_codec_spec("2bit");
  EXPECT_EQ(spec.slot_bytes(1000), 4000U);  // round 0 brings the parameters
  spec.from_worker_0 = false;
  EXPECT_EQ(spec.slot_bytes(1000), 250U);
  spec.codec = *parse_codec_spec("topk:fraction=1");
  EXPECT_EQ(spec.slot_bytes(1000), 8000U);
}

TEST(EncodedGradients, AreDeclaredAlike) {
  HandJob job(job_options("loopback"));
  std::vector<Buffers> buffers(kWorkers, Buffers(100));
  std::vector<Ticket> tickets = {
      job.worker(0).begin_declare({buffers[0].tensor(*parse_codec_spec("int8"))}),
      job.worker(1).begin_declare({buffers[1].tensor(*parse_codec_spec("int8:block=64"))})};
  for (Rank rank = 0; rank < kWorkers; ++rank) {
    const Status status = job.finish(rank, tickets[rank]);
    EXPECT_EQ(status.code(), Code::kMismatch);
    EXPECT_NE(status.what().find("codec int8:block=256 against int8:block=64"), std::string::npos)
        << status.to_string();
  }
}

TEST(EncodedGradients, AreRefusedWithTheKeyAndTheReason) {
  Declaration declaration = declared("2bit");
  EXPECT_TRUE(validate(declaration).ok());
  declaration.spec.gradient_dtype = DType::kBfloat16;
  EXPECT_EQ(validate(declaration).what(), "key 7 'w': codec 2bit encodes fp32 gradients, not bf16");
  declaration.spec.gradient_dtype = DType::kFloat32;
  declaration.spec.codec.threshold = -1;
  EXPECT_EQ(validate(declaration).what(),
            "key 7 'w': codec threshold is -1, but must be finite and above 0 (1bit takes 0, too)");
}

TEST(EncodedGradients, TravelInTheDeclaration) {
  for (const char* text : {"none", "2bit:threshold=0.25", "int8:block=64", "topk:fraction=0.1"}) {
    const Declaration declaration = declared(text);
    const Result<Declaration> read = from_wire(to_wire(declaration));
    ASSERT_TRUE(read.ok()) << read.status().to_string();
    EXPECT_EQ(*read, declaration);
  }
  auto unknown = to_wire(declared("1bit"));
  unknown->codec->kind = 200;
  EXPECT_EQ(from_wire(unknown).status().code(), Code::kProtocol);
}

}  // namespace
}  // namespace penstock::test
