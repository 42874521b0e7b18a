//! Which function computes which op: one list, from which the methods of [`Cpu`] and their instances for each stored type
//! are made.
//!
//! The instances are compiled here, once. Were the methods of `Cpu<S>` generic down to the kernels, every crate that trains
//! a model would compile all kernels anew: two minutes instead of seconds for each test binary of the trainer.

use half::bf16;

use super::Cpu;
use super::simd::Storage;
use super::{
    activation, adamw, all_to_all, attention, cross_entropy, embedding, losses, memory, permutation, pool,
    products, rms_norm, rope, router, router_logits, smoothing,
};
use crate::{Result, ops};

/// Hands the list of ops to the macro `$to`, behind the type `$stored` if there is one: first those with arguments, then the
/// sizes of workspaces.
macro_rules! each_op {
    ($to:ident $($stored:ident)?) => {
        $to! {
            $($stored)?
            ops {
                embedding_forward(embedding::Forward) = embedding::forward;
                embedding_backward(embedding::Backward) = embedding::backward;
                rms_norm_forward(rms_norm::Forward) = rms_norm::forward;
                rms_norm_backward(rms_norm::Backward) = rms_norm::backward;
                rope(rope::Apply) = rope::apply;
                attention_forward(attention::Forward) = attention::forward;
                attention_cached(attention::Cached) = attention::cached;
                attention_backward(attention::Backward) = attention::backward;
                linear_forward(linear::Forward) = products::linear_forward;
                linear_dgrad(linear::Dgrad) = products::linear_dgrad;
                linear_wgrad(linear::Wgrad) = products::linear_wgrad;
                activation_forward(activation::Forward) = activation::forward;
                activation_backward(activation::Backward) = activation::backward;
                clamp_forward(activation::Clamp) = activation::clamp_forward;
                clamp_backward(activation::ClampBackward) = activation::clamp_backward;
                cross_entropy(cross_entropy::ForwardBackward) = cross_entropy::forward_backward;
                router_logits_forward(router_logits::Forward) = router_logits::forward;
                router_logits_backward(router_logits::Backward) = router_logits::backward;
                smoothing_forward(smoothing::Forward) = smoothing::forward;
                smoothing_backward(smoothing::Backward) = smoothing::backward;
                pool_sizes(pool::Sizes) = |_, args| pool::sizes(args);
                pool_keep(pool::Keep) = pool::keep;
                router_forward(router::Forward) = router::forward;
                smoothed_router(smoothing::Router) = smoothing::before_router;
                smoothed_pool(smoothing::Pool) = smoothing::before_pool;
                router_backward(router::Backward) = router::backward;
                load_balance(losses::LoadBalance) = losses::load_balance;
                mutual_information(losses::MutualInformation) = losses::mutual_information;
                sequence_consistency(losses::SequenceConsistency) = losses::sequence_consistency;
                domain_consistency(losses::DomainConsistency) = losses::domain_consistency;
                redundancy(losses::Redundancy) = losses::redundancy;
                plan(permutation::Plan) = permutation::plan;
                dispatch_forward(permutation::Dispatch) = permutation::dispatch;
                dispatch_backward(permutation::DispatchBackward) = permutation::dispatch_backward;
                combine_forward(permutation::Combine) = permutation::combine;
                combine_backward(permutation::CombineBackward) = permutation::combine_backward;
                send_plan(all_to_all::SendPlan) = |_, args| all_to_all::send_plan(args);
                receive_plan(all_to_all::ReceivePlan) = |_, args| all_to_all::receive_plan(args);
                grouped_gemm_forward(grouped_gemm::Forward) = products::grouped_forward;
                grouped_gemm_dgrad(grouped_gemm::Dgrad) = products::grouped_dgrad;
                grouped_gemm_wgrad(grouped_gemm::Wgrad) = products::grouped_wgrad;
                experts_forward(experts::Forward) = products::experts_forward;
                experts_backward(experts::Backward) = products::experts_backward;
                adamw(adamw::Step) = adamw::step;
                sum_of_squares(adamw::SumOfSquares) = adamw::sum_of_squares;
            }
            workspaces {
                rms_norm_workspace(rms_norm::Shape) = |_, shape| rms_norm::workspace(shape);
                attention_workspace(attention::Shape) = attention::workspace;
                linear_workspace(linear::Shape) = products::linear_workspace;
                grouped_gemm_workspace(grouped_gemm::Shape) = products::grouped_workspace;
                experts_workspace(experts::Shape) = products::experts_workspace;
            }
        }
    };
}
pub(super) use each_op;

macro_rules! declare {
    (ops { $($op:ident($module:ident::$args:ident) = $call:expr;)* }
     workspaces { $($size:ident($size_module:ident::Shape) = $size_call:expr;)* }) => {
        /// The ops for values stored as `Self`, each the function of its module.
        pub trait Table: Sized {
            fn add(cpu: &Cpu<Self>, x: &[Self], y: &mut [Self]) -> Result<()>
            where
                Self: Storage;
            $(fn $op(cpu: &Cpu<Self>, args: ops::$module::$args<'_, Cpu<Self>>) -> Result<()>
            where
                Self: Storage;)*
            $(fn $size(cpu: &Cpu<Self>, shape: ops::$size_module::Shape) -> usize
            where
                Self: Storage;)*
        }
    };
}

macro_rules! instances {
    ($stored:ident
     ops { $($op:ident($module:ident::$args:ident) = $call:expr;)* }
     workspaces { $($size:ident($size_module:ident::Shape) = $size_call:expr;)* }) => {
        impl Table for $stored {
            fn add(cpu: &Cpu<Self>, x: &[Self], y: &mut [Self]) -> Result<()> {
                memory::add(cpu, x, y)
            }
            $(fn $op(cpu: &Cpu<Self>, args: ops::$module::$args<'_, Cpu<Self>>) -> Result<()> {
                let compute: fn(&Cpu<Self>, ops::$module::$args<'_, Cpu<Self>>) -> Result<()> = $call;
                compute(cpu, args)
            })*
            $(fn $size(cpu: &Cpu<Self>, shape: ops::$size_module::Shape) -> usize {
                let size: fn(&Cpu<Self>, ops::$size_module::Shape) -> usize = $size_call;
                size(cpu, shape)
            })*
        }
    };
}

each_op!(declare);
each_op!(instances f32);
each_op!(instances bf16);
