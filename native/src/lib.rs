//! The hot loops of ctr-streamer's encoder. Each of them has a twin in Python, with the same results.

mod buffers;
mod column_rows;
mod digests;
mod document;
mod document_columns;
mod document_numbers;
mod document_plan;
mod document_values;
mod json_values;
mod mix;
mod pace;
mod pairs;
mod priors;
mod row_cutter;
mod row_memo;
mod rows;
mod table;

use pyo3::prelude::*;

#[pymodule]
fn ctr_streamer_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("API", 7)?;
    module.add_class::<column_rows::ColumnCutter>()?;
    module.add_class::<digests::Digests>()?;
    module.add_class::<document::Document>()?;
    module.add_class::<pairs::Pairs>()?;
    module.add_class::<row_cutter::RowCutter>()?;
    module.add_class::<row_memo::RowMemo>()?;
    module.add_function(wrap_pyfunction!(priors::learn_priors, module)?)?;
    module.add_function(wrap_pyfunction!(table::are_ad_ids, module)?)?;
    module.add_function(wrap_pyfunction!(table::ad_digests, module)?)?;
    module.add_function(wrap_pyfunction!(table::ad_slots, module)?)?;
    module.add_function(wrap_pyfunction!(table::ads_known, module)?)?;
    Ok(())
}
