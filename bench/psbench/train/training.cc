// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/train/training.h"

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "bench/psbench/report.h"
#include "bench/psbench/train/mlp.h"
#include "bench/psbench/train/split.h"

namespace penstock::psbench {
namespace {

// safetensors: 8 bytes of header length, a JSON header, then the tensors' bytes.
std::string to_safetensors(const Mlp& network, const Mlp::ConstTensors& parameters) {
  nlohmann::ordered_json header;
  std::string bytes;
  for (std::size_t i = 0; i < Mlp::kTensors; ++i) {
    const Mlp::Shape& shape = network.shapes()[i];
    const std::size_t begin = bytes.size();
    bytes.append(reinterpret_cast<const char*>(parameters[i].data()), parameters[i].size_bytes());
    header[shape.name] = {
        {"dtype", "F32"}, {"shape", shape.extents}, {"data_offsets", {begin, bytes.size()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string file;
  for (unsigned i = 0; i < 8; ++i) file += static_cast<char>(text.size() >> (8 * i) & 0xff);
  return file + text + bytes;
}

class Training final : public WorkerProgram {
 public:
  Training(const TrainOptions& options, const OptimizerSpec& optimizer, const Dataset& data,
           SharedPage& page)
      : options_(options),
        optimizer_(optimizer),
        data_(data),
        page_(page),
        network_(data.features, options.hidden, data.classes) {
    for (std::size_t i = 0; i < Mlp::kTensors; ++i) {
      gradient_memory_[i].resize(network_.shapes()[i].elements);
      parameter_memory_[i].resize(network_.shapes()[i].elements);
      gradients_[i] = gradient_memory_[i];
      parameters_[i] = parameter_memory_[i];
    }
  }

  WorkerReport run(Worker& worker) override {
    worker_ = &worker;
    WorkerReport report;
    report.status = train();
    return report;
  }

 private:
  Status train();
  Status declare();
  Result<double> epoch(std::span<const RowIndex> rows);
  Status step(std::span<const RowIndex> batch, double& loss);
  Mlp::ConstTensors parameters() const {
    return {parameters_[0], parameters_[1], parameters_[2], parameters_[3]};
  }

  const TrainOptions& options_;
  const OptimizerSpec optimizer_;
  const Dataset& data_;
  SharedPage& page_;
  Mlp network_;
  std::array<std::vector<float>, Mlp::kTensors> gradient_memory_, parameter_memory_;
  Mlp::Tensors gradients_, parameters_;
  Worker* worker_ = nullptr;  // while run() runs
  Round round_ = 0;
};

Status Training::declare() {
  if (worker_->rank() == 0) network_.initialize(options_.seed, parameters_);
  std::vector<Tensor> tensors;
  for (std::size_t i = 0; i < Mlp::kTensors; ++i) {
    Tensor tensor;
    tensor.key = i;
    tensor.spec.name = network_.shapes()[i].name;
    tensor.spec.shape = network_.shapes()[i].extents;
    tensor.spec.optimizer = optimizer_;
    tensor.spec.priority = -static_cast<std::int32_t>(i);
    tensor.gradients = std::as_writable_bytes(gradients_[i]);
    tensor.parameters = std::as_writable_bytes(parameters_[i]);
    tensors.push_back(std::move(tensor));
  }
  return worker_->declare(std::move(tensors));
}

// Gradients of this worker's shard of the batch; the servers average them.
Status Training::step(std::span<const RowIndex> batch, double& loss) {
  const auto workers = static_cast<double>(worker_->workers());
  const double divisor = static_cast<double>(batch.size()) / workers;
  loss +=
      network_.gradients(parameters(), data_, shard_of(batch, worker_->rank(), worker_->workers()),
                         divisor, gradients_);
  ++round_;
  for (Key key = Mlp::kTensors; key-- > 0;)
    PENSTOCK_RETURN_IF_ERROR(worker_->push_pull(key, round_));
  for (Key key = 0; key < Mlp::kTensors; ++key)
    PENSTOCK_RETURN_IF_ERROR(worker_->wait(key, round_));
  return {};
}

// The mean loss of this worker's shards.
Result<double> Training::epoch(std::span<const RowIndex> rows) {
  double loss = 0;
  std::size_t steps = 0;
  for (std::size_t begin = 0; begin < rows.size(); begin += options_.batch, ++steps)
    PENSTOCK_RETURN_IF_ERROR(step(
        rows.subspan(begin, std::min<std::size_t>(options_.batch, rows.size() - begin)), loss));
  return loss / static_cast<double>(steps);
}

Status Training::train() {
  PENSTOCK_RETURN_IF_ERROR(declare());
  Split split = split_rows(data_.rows(), options_.held_out, options_.seed);
  double accuracy = 0;
  for (std::uint32_t e = 1; e <= options_.epochs && page_.last_round.load() >= e; ++e) {
    if (worker_->rank() == 0 && (page_.interrupted.load() || e == options_.epochs))
      page_.last_round.store(e);  // before anything of it is pushed: see SharedPage
    shuffle(split.train, options_.seed * 1000 + e);
    PENSTOCK_ASSIGN_OR_RETURN(const double loss, epoch(split.train));
    if (worker_->rank() != 0) continue;
    accuracy = network_.accuracy(parameters(), data_, split.held_out);
    fmt::print("epoch {:3}  loss {:.4f}  held-out accuracy {:.4f}\n", e, loss, accuracy);
    std::fflush(stdout);
  }
  if (worker_->rank() == 0) {
    if (!options_.save.empty())
      PENSTOCK_RETURN_IF_ERROR(write_file(options_.save, to_safetensors(network_, parameters())));
    if (page_.interrupted.load()) fmt::print("interrupted\n");
    fmt::print("final accuracy: {:.3f}\n", accuracy);
    std::fflush(stdout);
  }
  PENSTOCK_RETURN_IF_ERROR(worker_->barrier());
  return worker_->leave();
}

}  // namespace

Result<Dataset> load_data(const TrainOptions& options) {
  if (options.data.empty()) return Status(Code::kInvalidArgument, "--data names no file");
  PENSTOCK_ASSIGN_OR_RETURN(Dataset data, read_csv(options.data));
  scale_to_unit(data);
  return data;
}

std::unique_ptr<WorkerProgram> make_training(const TrainOptions& options,
                                             const OptimizerSpec& optimizer, const Dataset& data,
                                             SharedPage& page) {
  return std::make_unique<Training>(options, optimizer, data, page);
}

}  // namespace penstock::psbench
