//! A network's parameters by name, as the checkpoint stores them.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

/// Parameters by dotted path (`encoder.conv1.weight`), in alphabetical order.
pub type Parameters = BTreeMap<String, TensorData>;

/// Every parameter of a module.
pub fn collect(module: &impl Module) -> Parameters {
    let mut collector = Collector::default();
    module.visit(&mut collector);
    collector.found
}

/// The first parameter with a value that is infinite or not a number.
pub fn not_finite(parameters: &Parameters) -> Option<&String> {
    let finite = |data: &TensorData| match data.as_slice::<f32>() {
        Ok(values) => values.iter().all(|value| value.is_finite()),
        Err(_) => data.iter::<f64>().all(f64::is_finite),
    };
    parameters.iter().find_map(|(name, data)| (!finite(data)).then_some(name))
}

/// Replaces a module's parameters.
///
/// # Errors
/// Names a parameter that is missing, unknown to the module or of the wrong shape.
pub fn load<M: Module>(module: M, parameters: Parameters) -> Result<M, String> {
    let mut loader = Loader { path: Path::default(), parameters, problem: None };
    let module = module.map(&mut loader);
    if let Some(problem) = loader.problem {
        return Err(problem);
    }
    match loader.parameters.keys().next() {
        Some(name) => Err(format!("`{name}` has no place in this architecture")),
        None => Ok(module),
    }
}

/// The path of the module being visited.
#[derive(Default)]
pub struct Path(Vec<String>);

impl Path {
    /// Goes into a part of a container. Which variant an enum is does not show in names.
    pub fn enter(&mut self, name: &str, container: &str) {
        if !is_enum(container) {
            self.0.push(name.to_owned());
        }
    }

    /// Leaves it.
    pub fn exit(&mut self, container: &str) {
        if !is_enum(container) {
            self.0.pop();
        }
    }

    /// The dotted name, `encoder.conv1.weight`.
    pub fn name(&self) -> String {
        self.0.join(".")
    }
}

/// Whether a container is an enum, as burn's `derive(Module)` tells its visitors.
fn is_enum(container: &str) -> bool {
    container.starts_with("Enum:")
}

#[derive(Default)]
struct Collector {
    path: Path,
    found: Parameters,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.insert(self.path.name(), param.val().into_data());
    }
}

struct Loader {
    path: Path,
    parameters: Parameters,
    problem: Option<String>,
}

impl ModuleMapper for Loader {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let Some(data) = self.parameters.remove(&name) else {
            self.problem = Some(format!("`{name}` is missing"));
            return param;
        };
        let expected = param.val().dims();
        if data.shape().as_slice() != expected.as_slice() {
            self.problem =
                Some(format!("`{name}` has shape {:?}, expected {expected:?}", data.shape().as_slice()));
            return param;
        }
        param.map(|old| {
            let trained = old.is_require_grad();
            Tensor::from_data(data, &old.device()).set_require_grad(trained)
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;

    #[test]
    fn a_number_that_is_not_finite_is_found_in_a_tensor_of_any_type() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for kind in [DType::F64, DType::F32, DType::F16, DType::BF16] {
                let data = |value: f32| TensorData::new(vec![1.0, value], [2]).convert_dtype(kind);
                let mut parameters = Parameters::from([("a".to_owned(), data(2.0))]);
                assert_eq!(not_finite(&parameters), None, "{kind:?}");
                parameters.insert("b".to_owned(), data(wrong));
                assert_eq!(not_finite(&parameters).map(String::as_str), Some("b"), "{kind:?} {wrong}");
            }
        }
        assert_eq!(
            not_finite(&Parameters::from([("n".to_owned(), TensorData::new(vec![7_i64], [1]))])),
            None
        );
    }
}
