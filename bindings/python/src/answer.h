// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <vector>

#include "bindings/c/penstock.h"
#include "bindings/python/src/loan.h"

namespace penstock::python {

struct WorkerHandle;

// Bytes of somebody else's, read-only, behind a memoryview.
struct Array {
  penstock_array bytes;
  std::shared_ptr<const void> owner;
};

// What penstock_worker_answer() gave. Its arrays live as long as a view of them.
class Answer {
 public:
  // `handle`: the memory of an answer is its worker's.
  Answer(std::shared_ptr<WorkerHandle> handle, penstock_answer* answer);

  pybind11::bytes head() const;
  pybind11::list arrays() const;
  void keep(std::vector<Loan> loans) { state_->loans = std::move(loans); }

 private:
  struct State {
    std::shared_ptr<WorkerHandle> handle;
    penstock_answer* answer = nullptr;
    std::vector<Loan> loans;  // arrays of the answer may be the places that were lent
    ~State() { penstock_answer_destroy(answer); }
  };
  std::shared_ptr<State> state_;
};

}  // namespace penstock::python
