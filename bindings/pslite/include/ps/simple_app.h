// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// SimpleApp: requests of a number and a string, to any node or group, and their answers.

#include "ps/internal/customer.h"

namespace ps {

struct SimpleData {
  int head = 0;
  std::string body;
  int sender = 0;
  int timestamp = 0;
  int customer_id = 0;
};

class SimpleApp {
 public:
  using Handle = std::function<void(const SimpleData& received, SimpleApp* app)>;

  explicit SimpleApp(int app_id, int customer_id = 0)
      : SimpleApp(PENSTOCK_PS_PROCESS, 0, app_id, customer_id, 0) {
    customer_->Start();
  }
  virtual ~SimpleApp() { StopCustomer(); }
  SimpleApp(const SimpleApp&) = delete;
  void operator=(const SimpleApp&) = delete;

  // receiver: a node's id or a sum of groups. Returns the timestamp to wait for: answered by all.
  virtual int Request(int req_head, const std::string& req_body, int recv_id) {
    int timestamp = 0;
    internal::Check(penstock_ps_simple_request(customer_->runtime(), req_head, req_body.data(),
                                               req_body.size(), recv_id, &timestamp));
    return timestamp;
  }
  virtual void Wait(int timestamp) { customer_->WaitRequest(timestamp); }
  // Once per request, from any thread.
  void Response(const SimpleData& request, const std::string& res_body = "") {
    internal::Check(penstock_ps_simple_response(customer_->runtime(), request.sender,
                                                request.customer_id, request.timestamp,
                                                request.head, res_body.data(), res_body.size()));
  }

  void set_request_handle(const Handle& request_handle) {
    if (!request_handle) internal::Fail("an empty request handle");
    const std::lock_guard<std::mutex> lock(handles_mutex_);
    request_handle_ = std::make_shared<Handle>(request_handle);
  }
  void set_response_handle(const Handle& response_handle) {
    if (!response_handle) internal::Fail("an empty response handle");
    const std::lock_guard<std::mutex> lock(handles_mutex_);
    response_handle_ = std::make_shared<Handle>(response_handle);
  }
  virtual Customer* get_customer() { return customer_.get(); }

 protected:
  // Derived classes start their customer when they are whole and stop it before they go.
  SimpleApp(int office, int instance, int app_id, int customer_id, size_t value_size,
            void (*data_request)(void*, const penstock_ps_message*) = nullptr,
            void* context = nullptr)
      : context_(context), data_request_(data_request) {
    const penstock_ps_handlers handlers = {this, &OnRequest, &OnResponse, &OnData};
    customer_.reset(new Customer(office, instance, app_id, customer_id, value_size, handlers));
  }
  void StartCustomer() { customer_->Start(); }
  void StopCustomer() { customer_.reset(); }
  penstock_ps_customer* runtime() const { return customer_->runtime(); }

 private:
  static SimpleData Read(const penstock_ps_message* message) {
    SimpleData data;
    data.head = message->head;
    data.body.assign(message->body, static_cast<size_t>(message->body_size));
    data.sender = message->sender;
    data.timestamp = message->timestamp;
    data.customer_id = message->customer;
    return data;
  }
  std::shared_ptr<Handle> Find(const std::shared_ptr<Handle>& handle) {
    const std::lock_guard<std::mutex> lock(handles_mutex_);
    return handle;
  }
  static void OnRequest(void* self, const penstock_ps_message* message) {
    SimpleApp* const app = static_cast<SimpleApp*>(self);
    const SimpleData data = Read(message);
    if (const std::shared_ptr<Handle> handle = app->Find(app->request_handle_))
      (*handle)(data, app);
    else
      app->SimpleApp::Response(data);
  }
  static void OnResponse(void* self, const penstock_ps_message* message) {
    SimpleApp* const app = static_cast<SimpleApp*>(self);
    if (const std::shared_ptr<Handle> handle = app->Find(app->response_handle_))
      (*handle)(Read(message), app);
  }
  static void OnData(void* self, const penstock_ps_message* message) {
    SimpleApp* const app = static_cast<SimpleApp*>(self);
    app->data_request_(app->context_, message);
  }

  std::mutex handles_mutex_;
  std::shared_ptr<Handle> request_handle_;
  std::shared_ptr<Handle> response_handle_;
  void* const context_;
  void (*const data_request_)(void*, const penstock_ps_message*);
  std::unique_ptr<Customer> customer_;
};

}  // namespace ps
