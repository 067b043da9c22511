// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/exchange.h"

namespace penstock::psbench {
namespace {

class Exchange final : public WorkerProgram {
 public:
  Exchange(const Model& model, const ExchangeOptions& options, SharedPage& page)
      : model_(model), options_(options), page_(page) {}

  WorkerReport run(Worker& worker) override {
    WorkerReport report;
    worker_ = &worker;
    report.status = run_phases(report);
    set_ = {};  // its memory is the worker's; what is still lent, the worker keeps
    return report;
  }

 private:
  Status run_phases(WorkerReport& report);
  Status check_rounds(WorkerReport& report);
  Status warm_up(WorkerReport& report);
  Status measure(WorkerReport& report);
  Status round(double* elapsed_us);
  void decide_the_end(TimeNs started_ns, std::uint64_t measured);
  void enter(Phase phase) {
    if (worker_->rank() == 0) page_.phase.store(static_cast<std::uint64_t>(phase));
  }
  // The round that just ran, when every one is audited.
  void audit(WorkerReport& report) {
    if (options_.audit) report.wrong += set_.audit(round_, report.first_wrong);
  }

  const Model& model_;
  const ExchangeOptions options_;
  SharedPage& page_;
  SystemClock clock_;
  Worker* worker_ = nullptr;  // while run() runs
  TensorSet set_;
  Round round_ = 0;  // the last one that ran
};

// One step: gradients become ready from the last layer to the first.
Status Exchange::round(double* elapsed_us) {
  ++round_;
  const TimeNs begin_ns = clock_.now_ns();
  for (std::size_t i = set_.size(); i-- > 0;)
    PENSTOCK_RETURN_IF_ERROR(worker_->push_pull(set_.key(i), round_));
  for (std::size_t i = 0; i < set_.size(); ++i)
    PENSTOCK_RETURN_IF_ERROR(worker_->wait(set_.key(i), round_));
  if (elapsed_us != nullptr)
    *elapsed_us = static_cast<double>(clock_.now_ns() - begin_ns) / kMicrosecond;
  return {};
}

Status Exchange::check_rounds(WorkerReport& report) {
  enter(Phase::kChecking);
  for (Round r = 1; r <= 2 && options_.check && !options_.audit; ++r) {
    set_.fill_gradients(worker_->rank(), r);
    PENSTOCK_RETURN_IF_ERROR(round(nullptr));
    report.wrong += set_.check(r, report.first_wrong);
  }
  return {};
}

Status Exchange::warm_up(WorkerReport& report) {
  enter(Phase::kWarmingUp);
  for (std::uint64_t i = 0; i < options_.warm_up; ++i) {
    if (options_.audit || round_ == 0) set_.fill_gradients(worker_->rank(), round_ + 1);
    PENSTOCK_RETURN_IF_ERROR(round(nullptr));
    audit(report);
  }
  return {};
}

// Worker 0, before it pushes round_ + 1: is that the last one?
void Exchange::decide_the_end(TimeNs started_ns, std::uint64_t measured) {
  const bool enough = options_.rounds > 0 ? measured + 1 >= options_.rounds
                                          : measured + 1 >= kMinRounds &&
                                                static_cast<double>(clock_.now_ns() - started_ns) >=
                                                    options_.seconds * static_cast<double>(kSecond);
  if (enough || page_.interrupted.load()) page_.last_round.store(round_ + 1);
}

Status Exchange::measure(WorkerReport& report) {
  PENSTOCK_RETURN_IF_ERROR(worker_->barrier());
  enter(Phase::kMeasuring);
  const bool leader = worker_->rank() == 0;
  const double cpu_before_s = leader ? cpu_seconds(page_) : 0;
  const TimeNs started_ns = clock_.now_ns();
  report.round_us.reserve(1 << 16);
  for (std::uint64_t measured = 0; page_.last_round.load() > round_; ++measured) {
    if (options_.audit) set_.fill_gradients(worker_->rank(), round_ + 1);
    if (leader || options_.alone) decide_the_end(started_ns, measured);
    double elapsed_us = 0;
    PENSTOCK_RETURN_IF_ERROR(round(&elapsed_us));
    report.round_us.push_back(elapsed_us);
    if (leader) page_.rounds_done.store(measured + 1);
    audit(report);
  }
  if (leader) page_.cpu_s.store(cpu_seconds(page_) - cpu_before_s);
  return {};
}

Status Exchange::run_phases(WorkerReport& report) {
  enter(Phase::kDeclaring);
  PENSTOCK_ASSIGN_OR_RETURN(set_, TensorSet::create(model_, options_.tensors, *worker_));
  if (worker_->rank() == 0) set_.fill_initial();
  PENSTOCK_RETURN_IF_ERROR(worker_->declare(set_.tensors()));
  PENSTOCK_RETURN_IF_ERROR(check_rounds(report));
  PENSTOCK_RETURN_IF_ERROR(warm_up(report));
  PENSTOCK_RETURN_IF_ERROR(measure(report));
  enter(Phase::kEnding);
  PENSTOCK_RETURN_IF_ERROR(worker_->barrier());
  return worker_->leave();
}

}  // namespace

Status set_audit(ExchangeOptions& options) {
  if (options.tensors.optimizer.kind != OptimizerKind::kSgd)
    return {Code::kInvalidArgument, "--audit counts in whole numbers and needs sgd"};
  options.audit = true;
  options.tensors.optimizer.learning_rate = 1;
  options.tensors.reduce = Reduce::kSum;
  return {};
}

std::unique_ptr<WorkerProgram> make_exchange(const Model& model, const ExchangeOptions& options,
                                             SharedPage& page) {
  return std::make_unique<Exchange>(model, options, page);
}

}  // namespace penstock::psbench
