// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// The functions of ps/internal/runtime.h.

#include <cstring>

#include "bindings/pslite/process.h"

using penstock::Result;
using penstock::Status;
using penstock::pslite::Customer;
using penstock::pslite::Part;
using penstock::pslite::Process;

struct penstock_ps_customer {
  Customer customer;
};

namespace {

// The sentence, which is this thread's until its next call.
const char* sentence(const Status& status) {
  thread_local std::string last;
  if (status.ok()) return nullptr;
  last = status.to_string();
  return last.c_str();
}

template <class Value>
const char* give(const Result<Value>& result, Value* value) {
  if (result.ok()) *value = result.value();
  return sentence(result.status());
}

std::string_view text(const char* data, std::uint64_t size) {
  return size == 0 ? std::string_view() : std::string_view(data, static_cast<std::size_t>(size));
}

}  // namespace

extern "C" {

const char* penstock_ps_environment_find(const char* name) {
  return Process::get().environment().find(name);
}

void penstock_ps_environment_set(const char* name, const char* value) {
  Process::get().environment().set(name, value);
}

const char* penstock_ps_start(int customer, int role, int rank, int barrier) {
  std::optional<Part> part;
  if (role >= 0) part = static_cast<Part>(role);
  return sentence(Process::get().start(customer, part, rank, barrier != 0));
}

const char* penstock_ps_finalize(int customer, int barrier) {
  return sentence(Process::get().finalize(customer, barrier != 0));
}

void penstock_ps_on_exit(void (*run)(void*), void* context) {
  Process::get().on_exit([run, context] { run(context); });
}

const char* penstock_ps_fact(int office, int instance, int fact, int* value) {
  return give(Process::get().fact(office, instance, fact), value);
}

const char* penstock_ps_barrier(int office, int instance, int customer, int group) {
  return sentence(Process::get().barrier(office, instance, customer, group));
}

std::size_t penstock_ps_dead_nodes(int* ids, std::size_t capacity) {
  const std::vector<int> dead = Process::get().dead_nodes();
  for (std::size_t i = 0; i < dead.size() && i < capacity; ++i) ids[i] = dead[i];
  return dead.size();
}

const char* penstock_ps_customer_create(int office, int instance, int app, int customer,
                                        std::uint64_t value_size,
                                        const penstock_ps_handlers* handlers,
                                        penstock_ps_customer** created) {
  *created = new penstock_ps_customer{
      Customer(Process::get(), {office, instance, app, customer}, value_size, *handlers)};
  return nullptr;
}

const char* penstock_ps_customer_start(penstock_ps_customer* customer) {
  return sentence(customer->customer.start());
}

void penstock_ps_customer_destroy(penstock_ps_customer* customer) { delete customer; }

const char* penstock_ps_wait(penstock_ps_customer* customer, int timestamp) {
  return sentence(customer->customer.wait(timestamp));
}

const char* penstock_ps_simple_request(penstock_ps_customer* customer, int head, const char* body,
                                       std::uint64_t body_size, int receiver, int* timestamp) {
  return give(customer->customer.simple_request(head, text(body, body_size), receiver), timestamp);
}

const char* penstock_ps_simple_response(penstock_ps_customer* customer, int receiver,
                                        int receiver_customer, int timestamp, int head,
                                        const char* body, std::uint64_t body_size) {
  return sentence(customer->customer.simple_response(receiver, receiver_customer, timestamp, head,
                                                     text(body, body_size)));
}

const char* penstock_ps_ask(penstock_ps_customer* customer, const penstock_ps_data_request* request,
                            int* timestamp) {
  return give(customer->customer.data_request(*request), timestamp);
}

const char* penstock_ps_answer(penstock_ps_customer* customer,
                               const penstock_ps_data_response* response) {
  return sentence(customer->customer.data_response(*response));
}

const char* penstock_ps_register_buffer(penstock_ps_customer* customer, int worker_rank,
                                        std::uint64_t key, void* data, std::uint64_t size) {
  customer->customer.register_buffer(
      static_cast<penstock::Rank>(worker_rank), key,
      {static_cast<std::byte*>(data), static_cast<std::size_t>(size)});
  return nullptr;
}

void penstock_ps_fatal(const char* what) { Process::get().fatal(what); }
}
