"""Descriptors of TensorFlow Serving's messages, generated: do not edit.

Source: tensorflow-serving-api 2.21.0, tensorflow 2.21.0, Apache License 2.0.
`python -m sandbox.model_server.generate_messages` writes this file.
"""

# Each one is the FileDescriptorProto of the file above it, unchanged. A file comes after the files that it imports.
FILES: tuple[bytes, ...] = (
    # tensorflow/core/framework/tensor_shape.proto
    b'\n,tensorflow/core/framework/tensor_shape.proto\x12\ntensorflow"z\n\x10TensorShapeProto\x12-\n\x03dim\x18\x02 \x03(\x0b2 .tensor'
    b'flow.TensorShapeProto.Dim\x12\x14\n\x0cunknown_rank\x18\x03 \x01(\x08\x1a!\n\x03Dim\x12\x0c\n\x04size\x18\x01 \x01(\x03\x12\x0c\n\x04name\x18\x02 \x01(\tB\x87\x01\n\x18org.tensorflo'
    b'w.frameworkB\x11TensorShapeProtosP\x01ZSgithub.com/tensorflow/tensorflow/tensorflow/go/core/framework/tens'
    b'or_shape_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/framework/types.proto
    b'\n%tensorflow/core/framework/types.proto\x12\ntensorflow"9\n\x0fSerializedDType\x12&\n\x08datatype\x18\x01 \x01(\x0e2\x14.tensorflo'
    b'w.DataType*\xda\t\n\x08DataType\x12\x0e\n\nDT_INVALID\x10\x00\x12\x0c\n\x08DT_FLOAT\x10\x01\x12\r\n\tDT_DOUBLE\x10\x02\x12\x0c\n\x08DT_INT32\x10\x03\x12\x0c\n\x08DT_UINT8\x10\x04\x12\x0c\n\x08'
    b'DT_INT16\x10\x05\x12\x0b\n\x07DT_INT8\x10\x06\x12\r\n\tDT_STRING\x10\x07\x12\x10\n\x0cDT_COMPLEX64\x10\x08\x12\x0c\n\x08DT_INT64\x10\t\x12\x0b\n\x07DT_BOOL\x10\n\x12\x0c\n\x08DT_QINT8\x10\x0b\x12\r\n'
    b'\tDT_QUINT8\x10\x0c\x12\r\n\tDT_QINT32\x10\r\x12\x0f\n\x0bDT_BFLOAT16\x10\x0e\x12\r\n\tDT_QINT16\x10\x0f\x12\x0e\n\nDT_QUINT16\x10\x10\x12\r\n\tDT_UINT16\x10\x11\x12\x11\n\rDT_COM'
    b'PLEX128\x10\x12\x12\x0b\n\x07DT_HALF\x10\x13\x12\x0f\n\x0bDT_RESOURCE\x10\x14\x12\x0e\n\nDT_VARIANT\x10\x15\x12\r\n\tDT_UINT32\x10\x16\x12\r\n\tDT_UINT64\x10\x17\x12\x12\n\x0eDT_FLOAT8_E'
    b'5M2\x10\x18\x12\x14\n\x10DT_FLOAT8_E4M3FN\x10\x19\x12\x16\n\x12DT_FLOAT8_E4M3FNUZ\x10\x1a\x12\x19\n\x15DT_FLOAT8_E4M3B11FNUZ\x10\x1b\x12\x16\n\x12DT_FLOAT8_E5M2FNUZ'
    b'\x10\x1c\x12\x0b\n\x07DT_INT4\x10\x1d\x12\x0c\n\x08DT_UINT4\x10\x1e\x12\x0b\n\x07DT_INT2\x10\x1f\x12\x0c\n\x08DT_UINT2\x10 \x12\x14\n\x10DT_FLOAT4_E2M1FN\x10!\x12\x10\n\x0cDT_FLOAT_REF\x10e\x12\x11\n\r'
    b'DT_DOUBLE_REF\x10f\x12\x10\n\x0cDT_INT32_REF\x10g\x12\x10\n\x0cDT_UINT8_REF\x10h\x12\x10\n\x0cDT_INT16_REF\x10i\x12\x0f\n\x0bDT_INT8_REF\x10j\x12\x11\n\rDT_STRING_'
    b'REF\x10k\x12\x14\n\x10DT_COMPLEX64_REF\x10l\x12\x10\n\x0cDT_INT64_REF\x10m\x12\x0f\n\x0bDT_BOOL_REF\x10n\x12\x10\n\x0cDT_QINT8_REF\x10o\x12\x11\n\rDT_QUINT8_REF\x10p\x12'
    b'\x11\n\rDT_QINT32_REF\x10q\x12\x13\n\x0fDT_BFLOAT16_REF\x10r\x12\x11\n\rDT_QINT16_REF\x10s\x12\x12\n\x0eDT_QUINT16_REF\x10t\x12\x11\n\rDT_UINT16_REF\x10u\x12\x15\n'
    b'\x11DT_COMPLEX128_REF\x10v\x12\x0f\n\x0bDT_HALF_REF\x10w\x12\x13\n\x0fDT_RESOURCE_REF\x10x\x12\x12\n\x0eDT_VARIANT_REF\x10y\x12\x11\n\rDT_UINT32_REF\x10z\x12\x11\n'
    b'\rDT_UINT64_REF\x10{\x12\x16\n\x12DT_FLOAT8_E5M2_REF\x10|\x12\x18\n\x14DT_FLOAT8_E4M3FN_REF\x10}\x12\x1a\n\x16DT_FLOAT8_E4M3FNUZ_REF\x10~\x12\x1d\n\x19DT'
    b'_FLOAT8_E4M3B11FNUZ_REF\x10\x7f\x12\x1b\n\x16DT_FLOAT8_E5M2FNUZ_REF\x10\x80\x01\x12\x10\n\x0bDT_INT4_REF\x10\x81\x01\x12\x11\n\x0cDT_UINT4_REF\x10\x82\x01\x12\x10\n\x0bDT_IN'
    b'T2_REF\x10\x83\x01\x12\x11\n\x0cDT_UINT2_REF\x10\x84\x01\x12\x19\n\x14DT_FLOAT4_E2M1FN_REF\x10\x85\x01Bz\n\x18org.tensorflow.frameworkB\x0bTypesProtosP\x01ZL'
    b'github.com/tensorflow/tensorflow/tensorflow/go/core/framework/types_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/framework/resource_handle.proto
    b'\n/tensorflow/core/framework/resource_handle.proto\x12\ntensorflow\x1a,tensorflow/core/framework/tensor_shap'
    b'e.proto\x1a%tensorflow/core/framework/types.proto"\xa5\x02\n\x13ResourceHandleProto\x12\x0e\n\x06device\x18\x01 \x01(\t\x12\x11\n\tcontainer\x18'
    b'\x02 \x01(\t\x12\x0c\n\x04name\x18\x03 \x01(\t\x12\x11\n\thash_code\x18\x04 \x01(\x04\x12\x17\n\x0fmaybe_type_name\x18\x05 \x01(\t\x12H\n\x11dtypes_and_shapes\x18\x06 \x03(\x0b2-.tensorf'
    b'low.ResourceHandleProto.DtypeAndShape\x1aa\n\rDtypeAndShape\x12#\n\x05dtype\x18\x01 \x01(\x0e2\x14.tensorflow.DataType\x12+\n\x05shape'
    b'\x18\x02 \x01(\x0b2\x1c.tensorflow.TensorShapeProtoJ\x04\x08\x07\x10\x08B\x87\x01\n\x18org.tensorflow.frameworkB\x0eResourceHandleP\x01ZVgithub.co'
    b'm/tensorflow/tensorflow/tensorflow/go/core/framework/resource_handle_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/framework/tensor.proto
    b'\n&tensorflow/core/framework/tensor.proto\x12\ntensorflow\x1a/tensorflow/core/framework/resource_handle.prot'
    b'o\x1a,tensorflow/core/framework/tensor_shape.proto\x1a%tensorflow/core/framework/types.proto"\xa0\x04\n\x0bTensorPro'
    b'to\x12#\n\x05dtype\x18\x01 \x01(\x0e2\x14.tensorflow.DataType\x122\n\x0ctensor_shape\x18\x02 \x01(\x0b2\x1c.tensorflow.TensorShapeProto\x12\x16\n\x0eversi'
    b'on_number\x18\x03 \x01(\x05\x12\x16\n\x0etensor_content\x18\x04 \x01(\x0c\x12\x14\n\x08half_val\x18\r \x03(\x05B\x02\x10\x01\x12\x15\n\tfloat_val\x18\x05 \x03(\x02B\x02\x10\x01\x12\x16\n\ndouble_val\x18\x06'
    b' \x03(\x01B\x02\x10\x01\x12\x13\n\x07int_val\x18\x07 \x03(\x05B\x02\x10\x01\x12\x12\n\nstring_val\x18\x08 \x03(\x0c\x12\x18\n\x0cscomplex_val\x18\t \x03(\x02B\x02\x10\x01\x12\x15\n\tint64_val\x18\n \x03(\x03B\x02\x10\x01\x12\x14'
    b'\n\x08bool_val\x18\x0b \x03(\x08B\x02\x10\x01\x12\x18\n\x0cdcomplex_val\x18\x0c \x03(\x01B\x02\x10\x01\x12<\n\x13resource_handle_val\x18\x0e \x03(\x0b2\x1f.tensorflow.ResourceHan'
    b'dleProto\x127\n\x0bvariant_val\x18\x0f \x03(\x0b2".tensorflow.VariantTensorDataProto\x12\x16\n\nuint32_val\x18\x10 \x03(\rB\x02\x10\x01\x12\x16\n\nuint64_'
    b'val\x18\x11 \x03(\x04B\x02\x10\x01\x12\x12\n\nfloat8_val\x18\x12 \x01(\x0c"g\n\x16VariantTensorDataProto\x12\x11\n\ttype_name\x18\x01 \x01(\t\x12\x10\n\x08metadata\x18\x02 \x01(\x0c\x12(\n\x07'
    b'tensors\x18\x03 \x03(\x0b2\x17.tensorflow.TensorProtoB|\n\x18org.tensorflow.frameworkB\x0cTensorProtosP\x01ZMgithub.com/tenso'
    b'rflow/tensorflow/tensorflow/go/core/framework/tensor_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # google/protobuf/any.proto
    b'\n\x19google/protobuf/any.proto\x12\x0fgoogle.protobuf"6\n\x03Any\x12\x19\n\x08type_url\x18\x01 \x01(\tR\x07typeUrl\x12\x14\n\x05value\x18\x02 \x01(\x0cR\x05value'
    b'Bv\n\x13com.google.protobufB\x08AnyProtoP\x01Z,google.golang.org/protobuf/types/known/anypb\xa2\x02\x03GPB\xaa\x02\x1eGoogle.Pro'
    b'tobuf.WellKnownTypesb\x06proto3'
    ,
    # tensorflow/core/framework/attr_value.proto
    b'\n*tensorflow/core/framework/attr_value.proto\x12\ntensorflow\x1a&tensorflow/core/framework/tensor.proto\x1a,te'
    b'nsorflow/core/framework/tensor_shape.proto\x1a%tensorflow/core/framework/types.proto"\xa6\x04\n\tAttrValue\x12\x0b\n\x01s'
    b'\x18\x02 \x01(\x0cH\x00\x12\x0b\n\x01i\x18\x03 \x01(\x03H\x00\x12\x0b\n\x01f\x18\x04 \x01(\x02H\x00\x12\x0b\n\x01b\x18\x05 \x01(\x08H\x00\x12$\n\x04type\x18\x06 \x01(\x0e2\x14.tensorflow.DataTypeH\x00\x12-\n\x05shape\x18\x07 \x01(\x0b'
    b'2\x1c.tensorflow.TensorShapeProtoH\x00\x12)\n\x06tensor\x18\x08 \x01(\x0b2\x17.tensorflow.TensorProtoH\x00\x12/\n\x04list\x18\x01 \x01(\x0b2\x1f.tensorfl'
    b'ow.AttrValue.ListValueH\x00\x12(\n\x04func\x18\n \x01(\x0b2\x18.tensorflow.NameAttrListH\x00\x12\x15\n\x0bplaceholder\x18\t \x01(\tH\x00\x1a\xe9\x01\n\tListVa'
    b'lue\x12\t\n\x01s\x18\x02 \x03(\x0c\x12\r\n\x01i\x18\x03 \x03(\x03B\x02\x10\x01\x12\r\n\x01f\x18\x04 \x03(\x02B\x02\x10\x01\x12\r\n\x01b\x18\x05 \x03(\x08B\x02\x10\x01\x12&\n\x04type\x18\x06 \x03(\x0e2\x14.tensorflow.DataTypeB\x02\x10\x01\x12'
    b"+\n\x05shape\x18\x07 \x03(\x0b2\x1c.tensorflow.TensorShapeProto\x12'\n\x06tensor\x18\x08 \x03(\x0b2\x17.tensorflow.TensorProto\x12&\n\x04func\x18\t \x03(\x0b2"
    b'\x18.tensorflow.NameAttrListB\x07\n\x05value"\x92\x01\n\x0cNameAttrList\x12\x0c\n\x04name\x18\x01 \x01(\t\x120\n\x04attr\x18\x02 \x03(\x0b2".tensorflow.NameAtt'
    b'rList.AttrEntry\x1aB\n\tAttrEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12$\n\x05value\x18\x02 \x01(\x0b2\x15.tensorflow.AttrValue:\x028\x01B\x83\x01\n\x18org.tensorfl'
    b'ow.frameworkB\x0fAttrValueProtosP\x01ZQgithub.com/tensorflow/tensorflow/tensorflow/go/core/framework/attr_'
    b'value_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/framework/full_type.proto
    b'\n)tensorflow/core/framework/full_type.proto\x12\ntensorflow"\x7f\n\x0bFullTypeDef\x12\'\n\x07type_id\x18\x01 \x01(\x0e2\x16.tensorflow'
    b'.FullTypeId\x12%\n\x04args\x18\x02 \x03(\x0b2\x17.tensorflow.FullTypeDef\x12\x0b\n\x01s\x18\x03 \x01(\tH\x00\x12\x0b\n\x01i\x18\x04 \x01(\x03H\x00B\x06\n\x04attr*\xda\x04\n\nFullTypeId\x12'
    b'\r\n\tTFT_UNSET\x10\x00\x12\x0b\n\x07TFT_VAR\x10\x01\x12\x0b\n\x07TFT_ANY\x10\x02\x12\x0f\n\x0bTFT_PRODUCT\x10\x03\x12\r\n\tTFT_NAMED\x10\x04\x12\x10\n\x0cTFT_FOR_EACH\x10\x14\x12\x10\n\x0cTFT_CA'
    b'LLABLE\x10d\x12\x0f\n\nTFT_TENSOR\x10\xe8\x07\x12\x0e\n\tTFT_ARRAY\x10\xe9\x07\x12\x11\n\x0cTFT_OPTIONAL\x10\xea\x07\x12\x10\n\x0bTFT_LITERAL\x10\xeb\x07\x12\x10\n\x0bTFT_ENCODED\x10\xec\x07\x12\x15\n\x10'
    b'TFT_SHAPE_TENSOR\x10\xed\x07\x12\r\n\x08TFT_BOOL\x10\xc8\x01\x12\x0e\n\tTFT_UINT8\x10\xc9\x01\x12\x0f\n\nTFT_UINT16\x10\xca\x01\x12\x0f\n\nTFT_UINT32\x10\xcb\x01\x12\x0f\n\nTFT_UINT64\x10\xcc'
    b'\x01\x12\r\n\x08TFT_INT8\x10\xcd\x01\x12\x0e\n\tTFT_INT16\x10\xce\x01\x12\x0e\n\tTFT_INT32\x10\xcf\x01\x12\x0e\n\tTFT_INT64\x10\xd0\x01\x12\r\n\x08TFT_HALF\x10\xd1\x01\x12\x0e\n\tTFT_FLOAT\x10\xd2\x01\x12\x0f\n\nT'
    b'FT_DOUBLE\x10\xd3\x01\x12\x11\n\x0cTFT_BFLOAT16\x10\xd7\x01\x12\x12\n\rTFT_COMPLEX64\x10\xd4\x01\x12\x13\n\x0eTFT_COMPLEX128\x10\xd5\x01\x12\x0f\n\nTFT_STRING\x10\xd6\x01\x12\x10\n\x0bTFT_DAT'
    b'ASET\x10\xf6N\x12\x0f\n\nTFT_RAGGED\x10\xf7N\x12\x11\n\x0cTFT_ITERATOR\x10\xf8N\x12\x13\n\x0eTFT_MUTEX_LOCK\x10\xdaO\x12\x17\n\x12TFT_LEGACY_VARIANT\x10\xdbOB\x81\x01\n\x18org.te'
    b'nsorflow.frameworkB\x0eFullTypeProtosP\x01ZPgithub.com/tensorflow/tensorflow/tensorflow/go/core/framework/'
    b'full_type_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/framework/node_def.proto
    b'\n(tensorflow/core/framework/node_def.proto\x12\ntensorflow\x1a*tensorflow/core/framework/attr_value.proto\x1a)'
    b'tensorflow/core/framework/full_type.proto"\x86\x03\n\x07NodeDef\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\n\n\x02op\x18\x02 \x01(\t\x12\r\n\x05input\x18\x03 \x03(\t\x12\x0e\n\x06de'
    b'vice\x18\x04 \x01(\t\x12+\n\x04attr\x18\x05 \x03(\x0b2\x1d.tensorflow.NodeDef.AttrEntry\x12J\n\x17experimental_debug_info\x18\x06 \x01(\x0b2).tensorflo'
    b'w.NodeDef.ExperimentalDebugInfo\x122\n\x11experimental_type\x18\x07 \x01(\x0b2\x17.tensorflow.FullTypeDef\x1aB\n\tAttrEntry\x12\x0b\n\x03'
    b'key\x18\x01 \x01(\t\x12$\n\x05value\x18\x02 \x01(\x0b2\x15.tensorflow.AttrValue:\x028\x01\x1aQ\n\x15ExperimentalDebugInfo\x12\x1b\n\x13original_node_names\x18'
    b'\x01 \x03(\t\x12\x1b\n\x13original_func_names\x18\x02 \x03(\tB{\n\x18org.tensorflow.frameworkB\tNodeProtoP\x01ZOgithub.com/tensorflow/t'
    b'ensorflow/tensorflow/go/core/framework/node_def_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/framework/op_def.proto
    b'\n&tensorflow/core/framework/op_def.proto\x12\ntensorflow\x1a*tensorflow/core/framework/attr_value.proto\x1a)te'
    b'nsorflow/core/framework/full_type.proto\x1a/tensorflow/core/framework/resource_handle.proto\x1a%tensorflow'
    b'/core/framework/types.proto"\xf3\x06\n\x05OpDef\x12\x0c\n\x04name\x18\x01 \x01(\t\x12+\n\tinput_arg\x18\x02 \x03(\x0b2\x18.tensorflow.OpDef.ArgDef\x12,\n\n'
    b"output_arg\x18\x03 \x03(\x0b2\x18.tensorflow.OpDef.ArgDef\x12\x16\n\x0econtrol_output\x18\x14 \x03(\t\x12'\n\x04attr\x18\x04 \x03(\x0b2\x19.tensorflow.OpDef."
    b'AttrDef\x12.\n\x0bdeprecation\x18\x08 \x01(\x0b2\x19.tensorflow.OpDeprecation\x12\x0f\n\x07summary\x18\x05 \x01(\t\x12\x13\n\x0bdescription\x18\x06 \x01(\t\x12\x16\n\x0eis_'
    b'commutative\x18\x12 \x01(\x08\x12\x14\n\x0cis_aggregate\x18\x10 \x01(\x08\x12\x13\n\x0bis_stateful\x18\x11 \x01(\x08\x12"\n\x1aallows_uninitialized_input\x18\x13 \x01(\x08\x12$\n\x1c'
    b'is_distributed_communication\x18\x15 \x01(\x08\x1a\x9c\x02\n\x06ArgDef\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x13\n\x0bdescription\x18\x02 \x01(\t\x12"\n\x04type\x18\x03 \x01(\x0e2\x14.ten'
    b'sorflow.DataType\x12\x11\n\ttype_attr\x18\x04 \x01(\t\x12\x13\n\x0bnumber_attr\x18\x05 \x01(\t\x12\x16\n\x0etype_list_attr\x18\x06 \x01(\t\x12B\n\x0bhandle_data\x18\x07 \x03('
    b'\x0b2-.tensorflow.ResourceHandleProto.DtypeAndShape\x12\x0e\n\x06is_ref\x18\x10 \x01(\x08\x127\n\x16experimental_full_type\x18\x11 \x01(\x0b2\x17.t'
    b'ensorflow.FullTypeDef\x1a\xbd\x01\n\x07AttrDef\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x0c\n\x04type\x18\x02 \x01(\t\x12,\n\rdefault_value\x18\x03 \x01(\x0b2\x15.tensorflow.At'
    b'trValue\x12\x13\n\x0bdescription\x18\x04 \x01(\t\x12\x13\n\x0bhas_minimum\x18\x05 \x01(\x08\x12\x0f\n\x07minimum\x18\x06 \x01(\x03\x12-\n\x0eallowed_values\x18\x07 \x01(\x0b2\x15.tensorf'
    b'low.AttrValue"5\n\rOpDeprecation\x12\x0f\n\x07version\x18\x01 \x01(\x05\x12\x13\n\x0bexplanation\x18\x02 \x01(\t"\'\n\x06OpList\x12\x1d\n\x02op\x18\x01 \x03(\x0b2\x11.tensorf'
    b'low.OpDefB{\n\x18org.tensorflow.frameworkB\x0bOpDefProtosP\x01ZMgithub.com/tensorflow/tensorflow/tensorflow/go'
    b'/core/framework/op_def_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/framework/function.proto
    b'\n(tensorflow/core/framework/function.proto\x12\ntensorflow\x1a*tensorflow/core/framework/attr_value.proto\x1a('
    b'tensorflow/core/framework/node_def.proto\x1a&tensorflow/core/framework/op_def.proto"\xa8\x01\n\x12FunctionDefLibr'
    b'ary\x12)\n\x08function\x18\x01 \x03(\x0b2\x17.tensorflow.FunctionDef\x12)\n\x08gradient\x18\x02 \x03(\x0b2\x17.tensorflow.GradientDef\x12<\n\x14registe'
    b'red_gradients\x18\x03 \x03(\x0b2\x1e.tensorflow.RegisteredGradient"\xc4\x06\n\x0bFunctionDef\x12$\n\tsignature\x18\x01 \x01(\x0b2\x11.tensorflow.'
    b'OpDef\x12/\n\x04attr\x18\x05 \x03(\x0b2!.tensorflow.FunctionDef.AttrEntry\x126\n\x08arg_attr\x18\x07 \x03(\x0b2$.tensorflow.FunctionDef.Ar'
    b'gAttrEntry\x12P\n\x16resource_arg_unique_id\x18\x08 \x03(\x0b20.tensorflow.FunctionDef.ResourceArgUniqueIdEntry\x12%\n\x08node'
    b'_def\x18\x03 \x03(\x0b2\x13.tensorflow.NodeDef\x12-\n\x03ret\x18\x04 \x03(\x0b2 .tensorflow.FunctionDef.RetEntry\x12<\n\x0bcontrol_ret\x18\x06 \x03(\x0b2'
    b"'.tensorflow.FunctionDef.ControlRetEntry\x1aB\n\tAttrEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12$\n\x05value\x18\x02 \x01(\x0b2\x15.tensorflow.AttrV"
    b'alue:\x028\x01\x1a\x88\x01\n\x08ArgAttrs\x128\n\x04attr\x18\x01 \x03(\x0b2*.tensorflow.FunctionDef.ArgAttrs.AttrEntry\x1aB\n\tAttrEntry\x12\x0b\n\x03key\x18'
    b'\x01 \x01(\t\x12$\n\x05value\x18\x02 \x01(\x0b2\x15.tensorflow.AttrValue:\x028\x01\x1aP\n\x0cArgAttrEntry\x12\x0b\n\x03key\x18\x01 \x01(\r\x12/\n\x05value\x18\x02 \x01(\x0b2 .tensor'
    b'flow.FunctionDef.ArgAttrs:\x028\x01\x1a:\n\x18ResourceArgUniqueIdEntry\x12\x0b\n\x03key\x18\x01 \x01(\r\x12\r\n\x05value\x18\x02 \x01(\r:\x028\x01\x1a*\n\x08RetEntr'
    b'y\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\t:\x028\x01\x1a1\n\x0fControlRetEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\t:\x028\x01J\x04\x08\x02\x10\x03";\n\x0bGradie'
    b'ntDef\x12\x15\n\rfunction_name\x18\x01 \x01(\t\x12\x15\n\rgradient_func\x18\x02 \x01(\t"G\n\x12RegisteredGradient\x12\x15\n\rgradient_func\x18\x01 \x01(\t\x12\x1a\n\x12'
    b'registered_op_type\x18\x02 \x01(\tB\x80\x01\n\x18org.tensorflow.frameworkB\x0eFunctionProtosP\x01ZOgithub.com/tensorflow/tenso'
    b'rflow/tensorflow/go/core/framework/function_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/framework/graph_debug_info.proto
    b'\n0tensorflow/core/framework/graph_debug_info.proto\x12\ntensorflow"\xa3\x06\n\x0eGraphDebugInfo\x12\r\n\x05files\x18\x01 \x03(\t\x12@\n\x0c'
    b'frames_by_id\x18\x04 \x03(\x0b2*.tensorflow.GraphDebugInfo.FramesByIdEntry\x12@\n\x0ctraces_by_id\x18\x06 \x03(\x0b2*.tensorflow.Gr'
    b'aphDebugInfo.TracesByIdEntry\x126\n\x06traces\x18\x02 \x03(\x0b2&.tensorflow.GraphDebugInfo.TracesEntry\x12G\n\x10name_to_trac'
    b'e_id\x18\x05 \x03(\x0b2-.tensorflow.GraphDebugInfo.NameToTraceIdEntry\x1aX\n\x0bFileLineCol\x12\x12\n\nfile_index\x18\x01 \x01(\x05\x12\x0c\n\x04line'
    b'\x18\x02 \x01(\x05\x12\x0b\n\x03col\x18\x03 \x01(\x05\x12\x0c\n\x04func\x18\x04 \x01(\t\x12\x0c\n\x04code\x18\x05 \x01(\t\x1ab\n\nStackTrace\x12>\n\x0efile_line_cols\x18\x01 \x03(\x0b2&.tensorflow.G'
    b'raphDebugInfo.FileLineCol\x12\x14\n\x08frame_id\x18\x02 \x03(\x06B\x02\x10\x01\x1aY\n\x0fFramesByIdEntry\x12\x0b\n\x03key\x18\x01 \x01(\x06\x125\n\x05value\x18\x02 \x01(\x0b2&.ten'
    b'sorflow.GraphDebugInfo.FileLineCol:\x028\x01\x1aX\n\x0fTracesByIdEntry\x12\x0b\n\x03key\x18\x01 \x01(\x06\x124\n\x05value\x18\x02 \x01(\x0b2%.tensorflow.G'
    b'raphDebugInfo.StackTrace:\x028\x01\x1aT\n\x0bTracesEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x124\n\x05value\x18\x02 \x01(\x0b2%.tensorflow.GraphDebugInfo.'
    b'StackTrace:\x028\x01\x1a4\n\x12NameToTraceIdEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\x06:\x028\x01B\x8c\x01\n\x18org.tensorflow.frameworkB\x14G'
    b'raphDebugInfoProtosP\x01ZUgithub.com/tensorflow/tensorflow/tensorflow/go/core/protobuf/for_core_protos_'
    b'go_proto\xf8\x01\x01'
    ,
    # tensorflow/core/framework/versions.proto
    b'\n(tensorflow/core/framework/versions.proto\x12\ntensorflow"K\n\nVersionDef\x12\x10\n\x08producer\x18\x01 \x01(\x05\x12\x14\n\x0cmin_consum'
    b'er\x18\x02 \x01(\x05\x12\x15\n\rbad_consumers\x18\x03 \x03(\x05B\x80\x01\n\x18org.tensorflow.frameworkB\x0eVersionsProtosP\x01ZOgithub.com/tensorflo'
    b'w/tensorflow/tensorflow/go/core/framework/versions_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/framework/graph.proto
    b'\n%tensorflow/core/framework/graph.proto\x12\ntensorflow\x1a(tensorflow/core/framework/function.proto\x1a0tenso'
    b'rflow/core/framework/graph_debug_info.proto\x1a(tensorflow/core/framework/node_def.proto\x1a(tensorflow/co'
    b're/framework/versions.proto"\xcd\x01\n\x08GraphDef\x12!\n\x04node\x18\x01 \x03(\x0b2\x13.tensorflow.NodeDef\x12(\n\x08versions\x18\x04 \x01(\x0b2\x16.tens'
    b'orflow.VersionDef\x12\x13\n\x07version\x18\x03 \x01(\x05B\x02\x18\x01\x12/\n\x07library\x18\x02 \x01(\x0b2\x1e.tensorflow.FunctionDefLibrary\x12.\n\ndebug_inf'
    b'o\x18\x05 \x01(\x0b2\x1a.tensorflow.GraphDebugInfoBz\n\x18org.tensorflow.frameworkB\x0bGraphProtosP\x01ZLgithub.com/tensorflo'
    b'w/tensorflow/tensorflow/go/core/framework/graph_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/framework/variable.proto
    b'\n(tensorflow/core/framework/variable.proto\x12\ntensorflow"\xc8\x02\n\x0bVariableDef\x12\x15\n\rvariable_name\x18\x01 \x01(\t\x12\x1a\n\x12ini'
    b'tial_value_name\x18\x06 \x01(\t\x12\x18\n\x10initializer_name\x18\x02 \x01(\t\x12\x15\n\rsnapshot_name\x18\x03 \x01(\t\x129\n\x13save_slice_info_def\x18\x04 \x01(\x0b2'
    b'\x1c.tensorflow.SaveSliceInfoDef\x12\x13\n\x0bis_resource\x18\x05 \x01(\x08\x12\x11\n\ttrainable\x18\x07 \x01(\x08\x12<\n\x0fsynchronization\x18\x08 \x01(\x0e2#.ten'
    b'sorflow.VariableSynchronization\x124\n\x0baggregation\x18\t \x01(\x0e2\x1f.tensorflow.VariableAggregation"`\n\x10SaveSliceIn'
    b'foDef\x12\x11\n\tfull_name\x18\x01 \x01(\t\x12\x12\n\nfull_shape\x18\x02 \x03(\x03\x12\x12\n\nvar_offset\x18\x03 \x03(\x03\x12\x11\n\tvar_shape\x18\x04 \x03(\x03*\xac\x01\n\x17VariableSync'
    b'hronization\x12!\n\x1dVARIABLE_SYNCHRONIZATION_AUTO\x10\x00\x12!\n\x1dVARIABLE_SYNCHRONIZATION_NONE\x10\x01\x12%\n!VARIABLE_SYNCHR'
    b'ONIZATION_ON_WRITE\x10\x02\x12$\n VARIABLE_SYNCHRONIZATION_ON_READ\x10\x03*\x9e\x01\n\x13VariableAggregation\x12\x1d\n\x19VARIABLE_AGGRE'
    b"GATION_NONE\x10\x00\x12\x1c\n\x18VARIABLE_AGGREGATION_SUM\x10\x01\x12\x1d\n\x19VARIABLE_AGGREGATION_MEAN\x10\x02\x12+\n'VARIABLE_AGGREGATION_O"
    b'NLY_FIRST_REPLICA\x10\x03B\x80\x01\n\x18org.tensorflow.frameworkB\x0eVariableProtosP\x01ZOgithub.com/tensorflow/tensorflow'
    b'/tensorflow/go/core/framework/variable_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/protobuf/struct.proto
    b'\n%tensorflow/core/protobuf/struct.proto\x12\ntensorflow\x1a&tensorflow/core/framework/tensor.proto\x1a,tensorf'
    b'low/core/framework/tensor_shape.proto\x1a%tensorflow/core/framework/types.proto"\xf1\x05\n\x0fStructuredValue\x12+\n\n'
    b'none_value\x18\x01 \x01(\x0b2\x15.tensorflow.NoneValueH\x00\x12\x17\n\rfloat64_value\x18\x0b \x01(\x01H\x00\x12\x15\n\x0bint64_value\x18\x0c \x01(\x12H\x00\x12\x16\n\x0cstring_'
    b'value\x18\r \x01(\tH\x00\x12\x14\n\nbool_value\x18\x0e \x01(\x08H\x00\x12:\n\x12tensor_shape_value\x18\x1f \x01(\x0b2\x1c.tensorflow.TensorShapeProtoH\x00\x122\n\x12t'
    b'ensor_dtype_value\x18  \x01(\x0e2\x14.tensorflow.DataTypeH\x00\x128\n\x11tensor_spec_value\x18! \x01(\x0b2\x1b.tensorflow.TensorSpecPr'
    b'otoH\x00\x124\n\x0ftype_spec_value\x18" \x01(\x0b2\x19.tensorflow.TypeSpecProtoH\x00\x12G\n\x19bounded_tensor_spec_value\x18# \x01(\x0b2".ten'
    b'sorflow.BoundedTensorSpecProtoH\x00\x12+\n\nlist_value\x183 \x01(\x0b2\x15.tensorflow.ListValueH\x00\x12-\n\x0btuple_value\x184 \x01(\x0b2\x16'
    b'.tensorflow.TupleValueH\x00\x12+\n\ndict_value\x185 \x01(\x0b2\x15.tensorflow.DictValueH\x00\x128\n\x11named_tuple_value\x186 \x01(\x0b2\x1b.t'
    b'ensorflow.NamedTupleValueH\x00\x12/\n\x0ctensor_value\x187 \x01(\x0b2\x17.tensorflow.TensorProtoH\x00\x12.\n\x0bnumpy_value\x188 \x01(\x0b2\x17.'
    b'tensorflow.TensorProtoH\x00B\x06\n\x04kind"\x0b\n\tNoneValue"8\n\tListValue\x12+\n\x06values\x18\x01 \x03(\x0b2\x1b.tensorflow.StructuredVa'
    b'lue"9\n\nTupleValue\x12+\n\x06values\x18\x01 \x03(\x0b2\x1b.tensorflow.StructuredValue"\x8a\x01\n\tDictValue\x121\n\x06fields\x18\x01 \x03(\x0b2!.tenso'
    b'rflow.DictValue.FieldsEntry\x1aJ\n\x0bFieldsEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12*\n\x05value\x18\x02 \x01(\x0b2\x1b.tensorflow.StructuredValue:'
    b'\x028\x01"D\n\tPairValue\x12\x0b\n\x03key\x18\x01 \x01(\t\x12*\n\x05value\x18\x02 \x01(\x0b2\x1b.tensorflow.StructuredValue"F\n\x0fNamedTupleValue\x12\x0c\n\x04name'
    b'\x18\x01 \x01(\t\x12%\n\x06values\x18\x02 \x03(\x0b2\x15.tensorflow.PairValue"q\n\x0fTensorSpecProto\x12\x0c\n\x04name\x18\x01 \x01(\t\x12+\n\x05shape\x18\x02 \x01(\x0b2\x1c.tens'
    b'orflow.TensorShapeProto\x12#\n\x05dtype\x18\x03 \x01(\x0e2\x14.tensorflow.DataType"\xcc\x01\n\x16BoundedTensorSpecProto\x12\x0c\n\x04name\x18\x01 \x01('
    b'\t\x12+\n\x05shape\x18\x02 \x01(\x0b2\x1c.tensorflow.TensorShapeProto\x12#\n\x05dtype\x18\x03 \x01(\x0e2\x14.tensorflow.DataType\x12(\n\x07minimum\x18\x04 \x01(\x0b'
    b'2\x17.tensorflow.TensorProto\x12(\n\x07maximum\x18\x05 \x01(\x0b2\x17.tensorflow.TensorProto"\xf8\x03\n\rTypeSpecProto\x12@\n\x0ftype_spec_c'
    b"lass\x18\x01 \x01(\x0e2'.tensorflow.TypeSpecProto.TypeSpecClass\x12/\n\ntype_state\x18\x02 \x01(\x0b2\x1b.tensorflow.StructuredValue"
    b'\x12\x1c\n\x14type_spec_class_name\x18\x03 \x01(\t\x12\x1b\n\x13num_flat_components\x18\x04 \x01(\x05"\xb8\x02\n\rTypeSpecClass\x12\x0b\n\x07UNKNOWN\x10\x00\x12\x16\n\x12SPARSE'
    b'_TENSOR_SPEC\x10\x01\x12\x17\n\x13INDEXED_SLICES_SPEC\x10\x02\x12\x16\n\x12RAGGED_TENSOR_SPEC\x10\x03\x12\x15\n\x11TENSOR_ARRAY_SPEC\x10\x04\x12\x15\n\x11DATA_DATAS'
    b'ET_SPEC\x10\x05\x12\x16\n\x12DATA_ITERATOR_SPEC\x10\x06\x12\x11\n\rOPTIONAL_SPEC\x10\x07\x12\x14\n\x10PER_REPLICA_SPEC\x10\x08\x12\x11\n\rVARIABLE_SPEC\x10\t\x12\x16\n\x12ROW'
    b'_PARTITION_SPEC\x10\n\x12\x18\n\x14REGISTERED_TYPE_SPEC\x10\x0c\x12\x17\n\x13EXTENSION_TYPE_SPEC\x10\r"\x04\x08\x0b\x10\x0bBWZUgithub.com/tensorflow/'
    b'tensorflow/tensorflow/go/core/protobuf/for_core_protos_go_protob\x06proto3'
    ,
    # google/protobuf/wrappers.proto
    b'\n\x1egoogle/protobuf/wrappers.proto\x12\x0fgoogle.protobuf"#\n\x0bDoubleValue\x12\x14\n\x05value\x18\x01 \x01(\x01R\x05value""\n\nFloatValue'
    b'\x12\x14\n\x05value\x18\x01 \x01(\x02R\x05value""\n\nInt64Value\x12\x14\n\x05value\x18\x01 \x01(\x03R\x05value"#\n\x0bUInt64Value\x12\x14\n\x05value\x18\x01 \x01(\x04R\x05value""\n\nI'
    b'nt32Value\x12\x14\n\x05value\x18\x01 \x01(\x05R\x05value"#\n\x0bUInt32Value\x12\x14\n\x05value\x18\x01 \x01(\rR\x05value"!\n\tBoolValue\x12\x14\n\x05value\x18\x01 \x01(\x08R\x05va'
    b'lue"#\n\x0bStringValue\x12\x14\n\x05value\x18\x01 \x01(\tR\x05value""\n\nBytesValue\x12\x14\n\x05value\x18\x01 \x01(\x0cR\x05valueB\x83\x01\n\x13com.google.protobuf'
    b'B\rWrappersProtoP\x01Z1google.golang.org/protobuf/types/known/wrapperspb\xf8\x01\x01\xa2\x02\x03GPB\xaa\x02\x1eGoogle.Protobuf.Well'
    b'KnownTypesb\x06proto3'
    ,
    # tensorflow/core/protobuf/trackable_object_graph.proto
    b'\n5tensorflow/core/protobuf/trackable_object_graph.proto\x12\ntensorflow\x1a\x1egoogle/protobuf/wrappers.proto"'
    b'\xf3\x05\n\x14TrackableObjectGraph\x12?\n\x05nodes\x18\x01 \x03(\x0b20.tensorflow.TrackableObjectGraph.TrackableObject\x1a\x99\x05\n\x0fTracka'
    b'bleObject\x12R\n\x08children\x18\x01 \x03(\x0b2@.tensorflow.TrackableObjectGraph.TrackableObject.ObjectReference\x12U\n\natt'
    b'ributes\x18\x02 \x03(\x0b2A.tensorflow.TrackableObjectGraph.TrackableObject.SerializedTensor\x12^\n\x0eslot_variables\x18\x03'
    b' \x03(\x0b2F.tensorflow.TrackableObjectGraph.TrackableObject.SlotVariableReference\x125\n\x10registered_saver\x18\x04 \x01'
    b'(\x0b2\x1b.tensorflow.RegisteredSaver\x129\n\x15has_checkpoint_values\x18\x05 \x01(\x0b2\x1a.google.protobuf.BoolValue\x1a6\n\x0fObject'
    b'Reference\x12\x0f\n\x07node_id\x18\x01 \x01(\x05\x12\x12\n\nlocal_name\x18\x02 \x01(\t\x1ac\n\x10SerializedTensor\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x11\n\tfull_name\x18\x02 \x01(\t\x12'
    b'\x16\n\x0echeckpoint_key\x18\x03 \x01(\tJ\x04\x08\x04\x10\x05R\x10optional_restore\x1al\n\x15SlotVariableReference\x12!\n\x19original_variable_node_i'
    b'd\x18\x01 \x01(\x05\x12\x11\n\tslot_name\x18\x02 \x01(\t\x12\x1d\n\x15slot_variable_node_id\x18\x03 \x01(\x05"4\n\x0fRegisteredSaver\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x13\n\x0bobject'
    b'_name\x18\x02 \x01(\tBZZUgithub.com/tensorflow/tensorflow/tensorflow/go/core/protobuf/for_core_protos_go_proto'
    b'\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/protobuf/saved_object_graph.proto
    b'\n1tensorflow/core/protobuf/saved_object_graph.proto\x12\ntensorflow\x1a\x19google/protobuf/any.proto\x1a,tensorfl'
    b'ow/core/framework/tensor_shape.proto\x1a%tensorflow/core/framework/types.proto\x1a(tensorflow/core/framewo'
    b'rk/variable.proto\x1a(tensorflow/core/framework/versions.proto\x1a%tensorflow/core/protobuf/struct.proto\x1a5'
    b'tensorflow/core/protobuf/trackable_object_graph.proto"\xe8\x01\n\x10SavedObjectGraph\x12&\n\x05nodes\x18\x01 \x03(\x0b2\x17.tensorfl'
    b'ow.SavedObject\x12O\n\x12concrete_functions\x18\x02 \x03(\x0b23.tensorflow.SavedObjectGraph.ConcreteFunctionsEntry\x1a[\n\x16C'
    b'oncreteFunctionsEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x120\n\x05value\x18\x02 \x01(\x0b2!.tensorflow.SavedConcreteFunction:\x028\x01"\xd0\x07\n\x0bSavedOb'
    b'ject\x12R\n\x08children\x18\x01 \x03(\x0b2@.tensorflow.TrackableObjectGraph.TrackableObject.ObjectReference\x12V\n\x0cdependen'
    b'cies\x18\x0f \x03(\x0b2@.tensorflow.TrackableObjectGraph.TrackableObject.ObjectReference\x12^\n\x0eslot_variables\x18\x03 \x03(\x0b'
    b'2F.tensorflow.TrackableObjectGraph.TrackableObject.SlotVariableReference\x122\n\x0buser_object\x18\x04 \x01(\x0b2\x1b.tens'
    b"orflow.SavedUserObjectH\x00\x12'\n\x05asset\x18\x05 \x01(\x0b2\x16.tensorflow.SavedAssetH\x00\x12-\n\x08function\x18\x06 \x01(\x0b2\x19.tensorflow.Sav"
    b'edFunctionH\x00\x12-\n\x08variable\x18\x07 \x01(\x0b2\x19.tensorflow.SavedVariableH\x00\x12G\n\x16bare_concrete_function\x18\x08 \x01(\x0b2%.tensor'
    b'flow.SavedBareConcreteFunctionH\x00\x12-\n\x08constant\x18\t \x01(\x0b2\x19.tensorflow.SavedConstantH\x00\x12-\n\x08resource\x18\n \x01(\x0b2\x19.'
    b'tensorflow.SavedResourceH\x00\x125\n\x0fcaptured_tensor\x18\x0c \x01(\x0b2\x1a.tensorflow.CapturedTensorH\x00\x12F\n\x10saveable_object'
    b's\x18\x0b \x03(\x0b2,.tensorflow.SavedObject.SaveableObjectsEntry\x12\x17\n\x0fregistered_name\x18\r \x01(\t\x123\n\x15serialized_user_pr'
    b'oto\x18\x0e \x01(\x0b2\x14.google.protobuf.Any\x12\x18\n\x10registered_saver\x18\x10 \x01(\t\x1aR\n\x14SaveableObjectsEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12)\n\x05va'
    b'lue\x18\x02 \x01(\x0b2\x1a.tensorflow.SaveableObject:\x028\x01B\x06\n\x04kindJ\x04\x08\x02\x10\x03R\nattributes"d\n\x0fSavedUserObject\x12\x12\n\nidentifier'
    b'\x18\x01 \x01(\t\x12\'\n\x07version\x18\x02 \x01(\x0b2\x16.tensorflow.VersionDef\x12\x14\n\x08metadata\x18\x03 \x01(\tB\x02\x18\x01"*\n\nSavedAsset\x12\x1c\n\x14asset_file_de'
    b'f_index\x18\x01 \x01(\x05"\\\n\rSavedFunction\x12\x1a\n\x12concrete_functions\x18\x01 \x03(\t\x12/\n\rfunction_spec\x18\x02 \x01(\x0b2\x18.tensorflow.Funct'
    b'ionSpec"9\n\x0eCapturedTensor\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x19\n\x11concrete_function\x18\x02 \x01(\t"\xa8\x01\n\x15SavedConcreteFunction\x12\x14\n\x0cboun'
    b'd_inputs\x18\x02 \x03(\x05\x12B\n\x1dcanonicalized_input_signature\x18\x03 \x01(\x0b2\x1b.tensorflow.StructuredValue\x125\n\x10output_signatu'
    b're\x18\x04 \x01(\x0b2\x1b.tensorflow.StructuredValue"\xad\x01\n\x19SavedBareConcreteFunction\x12\x1e\n\x16concrete_function_name\x18\x01 \x01(\t\x12'
    b'\x19\n\x11argument_keywords\x18\x02 \x03(\t\x12$\n\x1callowed_positional_arguments\x18\x03 \x01(\x03\x12/\n\rfunction_spec\x18\x04 \x01(\x0b2\x18.tensorflow'
    b'.FunctionSpec""\n\rSavedConstant\x12\x11\n\toperation\x18\x01 \x01(\t"\xd7\x02\n\rSavedVariable\x12#\n\x05dtype\x18\x01 \x01(\x0e2\x14.tensorflow.Data'
    b'Type\x12+\n\x05shape\x18\x02 \x01(\x0b2\x1c.tensorflow.TensorShapeProto\x12\x11\n\ttrainable\x18\x03 \x01(\x08\x12<\n\x0fsynchronization\x18\x04 \x01(\x0e2#.tens'
    b'orflow.VariableSynchronization\x124\n\x0baggregation\x18\x05 \x01(\x0e2\x1f.tensorflow.VariableAggregation\x12\x0c\n\x04name\x18\x06 \x01(\t\x12\x0e'
    b'\n\x06device\x18\x07 \x01(\t\x12O\n,experimental_distributed_variable_components\x18\x08 \x03(\x0b2\x19.tensorflow.SavedVariable"\xfb\x01\n\x0c'
    b'FunctionSpec\x120\n\x0bfullargspec\x18\x01 \x01(\x0b2\x1b.tensorflow.StructuredValue\x12\x11\n\tis_method\x18\x02 \x01(\x08\x124\n\x0finput_signature'
    b'\x18\x05 \x01(\x0b2\x1b.tensorflow.StructuredValue\x128\n\x0bjit_compile\x18\x06 \x01(\x0e2#.tensorflow.FunctionSpec.JitCompile"*\n\nJit'
    b'Compile\x12\x0b\n\x07DEFAULT\x10\x00\x12\x06\n\x02ON\x10\x01\x12\x07\n\x03OFF\x10\x02J\x04\x08\x03\x10\x04J\x04\x08\x04\x10\x05"\x1f\n\rSavedResource\x12\x0e\n\x06device\x18\x01 \x01(\t"A\n\x0eSaveableObject'
    b'\x12\x15\n\rsave_function\x18\x02 \x01(\x05\x12\x18\n\x10restore_function\x18\x03 \x01(\x05BZZUgithub.com/tensorflow/tensorflow/tensorflow/go/'
    b'core/protobuf/for_core_protos_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/protobuf/saver.proto
    b'\n$tensorflow/core/protobuf/saver.proto\x12\ntensorflow"\x9e\x02\n\x08SaverDef\x12\x1c\n\x14filename_tensor_name\x18\x01 \x01(\t\x12\x18\n\x10sav'
    b'e_tensor_name\x18\x02 \x01(\t\x12\x17\n\x0frestore_op_name\x18\x03 \x01(\t\x12\x13\n\x0bmax_to_keep\x18\x04 \x01(\x05\x12\x0f\n\x07sharded\x18\x05 \x01(\x08\x12%\n\x1dkeep_checkpoin'
    b't_every_n_hours\x18\x06 \x01(\x02\x12=\n\x07version\x18\x07 \x01(\x0e2,.tensorflow.SaverDef.CheckpointFormatVersion"5\n\x17CheckpointFo'
    b'rmatVersion\x12\n\n\x06LEGACY\x10\x00\x12\x06\n\x02V1\x10\x01\x12\x06\n\x02V2\x10\x02B~\n\x13org.tensorflow.utilB\x0bSaverProtosP\x01ZUgithub.com/tensorflow'
    b'/tensorflow/tensorflow/go/core/protobuf/for_core_protos_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/protobuf/meta_graph.proto
    b'\n)tensorflow/core/protobuf/meta_graph.proto\x12\ntensorflow\x1a\x19google/protobuf/any.proto\x1a%tensorflow/core/'
    b'framework/graph.proto\x1a&tensorflow/core/framework/op_def.proto\x1a&tensorflow/core/framework/tensor.prot'
    b'o\x1a,tensorflow/core/framework/tensor_shape.proto\x1a%tensorflow/core/framework/types.proto\x1a1tensorflow/c'
    b'ore/protobuf/saved_object_graph.proto\x1a$tensorflow/core/protobuf/saver.proto\x1a%tensorflow/core/protobu'
    b'f/struct.proto"\xa8\x07\n\x0cMetaGraphDef\x12;\n\rmeta_info_def\x18\x01 \x01(\x0b2$.tensorflow.MetaGraphDef.MetaInfoDef\x12\'\n\tgrap'
    b"h_def\x18\x02 \x01(\x0b2\x14.tensorflow.GraphDef\x12'\n\tsaver_def\x18\x03 \x01(\x0b2\x14.tensorflow.SaverDef\x12C\n\x0ecollection_def\x18\x04 \x03(\x0b2+"
    b'.tensorflow.MetaGraphDef.CollectionDefEntry\x12A\n\rsignature_def\x18\x05 \x03(\x0b2*.tensorflow.MetaGraphDef.Signatu'
    b'reDefEntry\x120\n\x0easset_file_def\x18\x06 \x03(\x0b2\x18.tensorflow.AssetFileDef\x126\n\x10object_graph_def\x18\x07 \x01(\x0b2\x1c.tensorflow.'
    b'SavedObjectGraph\x1a\xf6\x02\n\x0bMetaInfoDef\x12\x1a\n\x12meta_graph_version\x18\x01 \x01(\t\x12,\n\x10stripped_op_list\x18\x02 \x01(\x0b2\x12.tensorflow.'
    b'OpList\x12&\n\x08any_info\x18\x03 \x01(\x0b2\x14.google.protobuf.Any\x12\x0c\n\x04tags\x18\x04 \x03(\t\x12\x1a\n\x12tensorflow_version\x18\x05 \x01(\t\x12\x1e\n\x16tensorfl'
    b'ow_git_version\x18\x06 \x01(\t\x12\x1e\n\x16stripped_default_attrs\x18\x07 \x01(\x08\x12S\n\x10function_aliases\x18\x08 \x03(\x0b29.tensorflow.MetaGrap'
    b'hDef.MetaInfoDef.FunctionAliasesEntry\x1a6\n\x14FunctionAliasesEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\t:\x028\x01\x1aO\n\x12Col'
    b'lectionDefEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12(\n\x05value\x18\x02 \x01(\x0b2\x19.tensorflow.CollectionDef:\x028\x01\x1aM\n\x11SignatureDefEntry\x12\x0b\n\x03k'
    b'ey\x18\x01 \x01(\t\x12\'\n\x05value\x18\x02 \x01(\x0b2\x18.tensorflow.SignatureDef:\x028\x01"\xdf\x03\n\rCollectionDef\x127\n\tnode_list\x18\x01 \x01(\x0b2".tensorf'
    b'low.CollectionDef.NodeListH\x00\x129\n\nbytes_list\x18\x02 \x01(\x0b2#.tensorflow.CollectionDef.BytesListH\x00\x129\n\nint64_lis'
    b't\x18\x03 \x01(\x0b2#.tensorflow.CollectionDef.Int64ListH\x00\x129\n\nfloat_list\x18\x04 \x01(\x0b2#.tensorflow.CollectionDef.FloatL'
    b'istH\x00\x125\n\x08any_list\x18\x05 \x01(\x0b2!.tensorflow.CollectionDef.AnyListH\x00\x1a\x19\n\x08NodeList\x12\r\n\x05value\x18\x01 \x03(\t\x1a\x1a\n\tBytesList'
    b'\x12\r\n\x05value\x18\x01 \x03(\x0c\x1a\x1e\n\tInt64List\x12\x11\n\x05value\x18\x01 \x03(\x03B\x02\x10\x01\x1a\x1e\n\tFloatList\x12\x11\n\x05value\x18\x01 \x03(\x02B\x02\x10\x01\x1a.\n\x07AnyList\x12#\n\x05value\x18'
    b'\x01 \x03(\x0b2\x14.google.protobuf.AnyB\x06\n\x04kind"\xd1\x03\n\nTensorInfo\x12\x0e\n\x04name\x18\x01 \x01(\tH\x00\x126\n\ncoo_sparse\x18\x04 \x01(\x0b2 .tensorflow.'
    b'TensorInfo.CooSparseH\x00\x12B\n\x10composite_tensor\x18\x05 \x01(\x0b2&.tensorflow.TensorInfo.CompositeTensorH\x00\x12#\n\x05dtype\x18'
    b'\x02 \x01(\x0e2\x14.tensorflow.DataType\x122\n\x0ctensor_shape\x18\x03 \x01(\x0b2\x1c.tensorflow.TensorShapeProto\x1ae\n\tCooSparse\x12\x1a\n\x12valu'
    b'es_tensor_name\x18\x01 \x01(\t\x12\x1b\n\x13indices_tensor_name\x18\x02 \x01(\t\x12\x1f\n\x17dense_shape_tensor_name\x18\x03 \x01(\t\x1ak\n\x0fCompositeTenso'
    b'r\x12,\n\ttype_spec\x18\x01 \x01(\x0b2\x19.tensorflow.TypeSpecProto\x12*\n\ncomponents\x18\x02 \x03(\x0b2\x16.tensorflow.TensorInfoB\n\n\x08encod'
    b'ing"\xa4\x03\n\x0cSignatureDef\x124\n\x06inputs\x18\x01 \x03(\x0b2$.tensorflow.SignatureDef.InputsEntry\x126\n\x07outputs\x18\x02 \x03(\x0b2%.tensor'
    b'flow.SignatureDef.OutputsEntry\x12\x13\n\x0bmethod_name\x18\x03 \x01(\t\x128\n\x08defaults\x18\x04 \x03(\x0b2&.tensorflow.SignatureDef.Defa'
    b'ultsEntry\x1aE\n\x0bInputsEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12%\n\x05value\x18\x02 \x01(\x0b2\x16.tensorflow.TensorInfo:\x028\x01\x1aF\n\x0cOutputsEntry\x12\x0b\n\x03'
    b'key\x18\x01 \x01(\t\x12%\n\x05value\x18\x02 \x01(\x0b2\x16.tensorflow.TensorInfo:\x028\x01\x1aH\n\rDefaultsEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12&\n\x05value\x18\x02 \x01(\x0b2\x17.'
    b'tensorflow.TensorProto:\x028\x01"M\n\x0cAssetFileDef\x12+\n\x0btensor_info\x18\x01 \x01(\x0b2\x16.tensorflow.TensorInfo\x12\x10\n\x08filename\x18'
    b'\x02 \x01(\tB\x87\x01\n\x18org.tensorflow.frameworkB\x0fMetaGraphProtosP\x01ZUgithub.com/tensorflow/tensorflow/tensorflow/g'
    b'o/core/protobuf/for_core_protos_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow_serving/apis/model.proto
    b'\n#tensorflow_serving/apis/model.proto\x12\x12tensorflow.serving\x1a\x1egoogle/protobuf/wrappers.proto"\x8c\x01\n\tModelS'
    b'pec\x12\x0c\n\x04name\x18\x01 \x01(\t\x12.\n\x07version\x18\x02 \x01(\x0b2\x1b.google.protobuf.Int64ValueH\x00\x12\x17\n\rversion_label\x18\x04 \x01(\tH\x00\x12\x16\n\x0esignat'
    b'ure_name\x18\x03 \x01(\tB\x10\n\x0eversion_choiceB\x03\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow_serving/apis/get_model_metadata.proto
    b'\n0tensorflow_serving/apis/get_model_metadata.proto\x12\x12tensorflow.serving\x1a\x19google/protobuf/any.proto\x1a)t'
    b'ensorflow/core/protobuf/meta_graph.proto\x1a#tensorflow_serving/apis/model.proto"\xae\x01\n\x0fSignatureDefMap\x12L\n'
    b'\rsignature_def\x18\x01 \x03(\x0b25.tensorflow.serving.SignatureDefMap.SignatureDefEntry\x1aM\n\x11SignatureDefEntry\x12\x0b\n\x03'
    b'key\x18\x01 \x01(\t\x12\'\n\x05value\x18\x02 \x01(\x0b2\x18.tensorflow.SignatureDef:\x028\x01"d\n\x17GetModelMetadataRequest\x121\n\nmodel_spec\x18\x01 \x01('
    b'\x0b2\x1d.tensorflow.serving.ModelSpec\x12\x16\n\x0emetadata_field\x18\x02 \x03(\t"\xe2\x01\n\x18GetModelMetadataResponse\x121\n\nmodel_spec\x18'
    b'\x01 \x01(\x0b2\x1d.tensorflow.serving.ModelSpec\x12L\n\x08metadata\x18\x02 \x03(\x0b2:.tensorflow.serving.GetModelMetadataResponse'
    b'.MetadataEntry\x1aE\n\rMetadataEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12#\n\x05value\x18\x02 \x01(\x0b2\x14.google.protobuf.Any:\x028\x01B\x03\xf8\x01\x01b\x06proto3'
    ,
    # xla/tsl/protobuf/error_codes.proto
    b'\n"xla/tsl/protobuf/error_codes.proto\x12\x10tensorflow.error*\x84\x03\n\x04Code\x12\x06\n\x02OK\x10\x00\x12\r\n\tCANCELLED\x10\x01\x12\x0b\n\x07UNKNOWN\x10\x02\x12'
    b'\x14\n\x10INVALID_ARGUMENT\x10\x03\x12\x15\n\x11DEADLINE_EXCEEDED\x10\x04\x12\r\n\tNOT_FOUND\x10\x05\x12\x12\n\x0eALREADY_EXISTS\x10\x06\x12\x15\n\x11PERMISSION_DENIED'
    b'\x10\x07\x12\x13\n\x0fUNAUTHENTICATED\x10\x10\x12\x16\n\x12RESOURCE_EXHAUSTED\x10\x08\x12\x17\n\x13FAILED_PRECONDITION\x10\t\x12\x0b\n\x07ABORTED\x10\n\x12\x10\n\x0cOUT_OF_RANG'
    b'E\x10\x0b\x12\x11\n\rUNIMPLEMENTED\x10\x0c\x12\x0c\n\x08INTERNAL\x10\r\x12\x0f\n\x0bUNAVAILABLE\x10\x0e\x12\r\n\tDATA_LOSS\x10\x0f\x12K\nGDO_NOT_USE_RESERVED_FOR_FUTU'
    b'RE_EXPANSION_USE_DEFAULT_IN_SWITCH_INSTEAD_\x10\x14Bq\n\x18org.tensorflow.frameworkB\x10ErrorCodesProtosP\x01Z>githu'
    b'b.com/google/tsl/tsl/go/protobuf/for_core_protos_go_proto\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow/core/protobuf/error_codes.proto
    b'\n*tensorflow/core/protobuf/error_codes.proto\x12\x16tensorflow.error.dummy\x1a"xla/tsl/protobuf/error_codes.p'
    b'rotoBWZUgithub.com/tensorflow/tensorflow/tensorflow/go/core/protobuf/for_core_protos_go_protoP\x00b\x06pro'
    b'to3'
    ,
    # tensorflow_serving/apis/status.proto
    b'\n$tensorflow_serving/apis/status.proto\x12\x12tensorflow.serving\x1a*tensorflow/core/protobuf/error_codes.pro'
    b'to"k\n\x0bStatusProto\x126\n\nerror_code\x18\x01 \x01(\x0e2\x16.tensorflow.error.CodeR\nerror_code\x12$\n\rerror_message\x18\x02 \x01(\tR\rer'
    b'ror_messageB\x03\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow_serving/apis/get_model_status.proto
    b'\n.tensorflow_serving/apis/get_model_status.proto\x12\x12tensorflow.serving\x1a#tensorflow_serving/apis/model.'
    b'proto\x1a$tensorflow_serving/apis/status.proto"J\n\x15GetModelStatusRequest\x121\n\nmodel_spec\x18\x01 \x01(\x0b2\x1d.tensorflo'
    b'w.serving.ModelSpec"\xe8\x01\n\x12ModelVersionStatus\x12\x0f\n\x07version\x18\x01 \x01(\x03\x12;\n\x05state\x18\x02 \x01(\x0e2,.tensorflow.serving.Mode'
    b'lVersionStatus.State\x12/\n\x06status\x18\x03 \x01(\x0b2\x1f.tensorflow.serving.StatusProto"S\n\x05State\x12\x0b\n\x07UNKNOWN\x10\x00\x12\t\n\x05START'
    b'\x10\n\x12\x0b\n\x07LOADING\x10\x14\x12\r\n\tAVAILABLE\x10\x1e\x12\r\n\tUNLOADING\x10(\x12\x07\n\x03END\x102"t\n\x16GetModelStatusResponse\x12Z\n\x14model_version_st'
    b'atus\x18\x01 \x03(\x0b2&.tensorflow.serving.ModelVersionStatusR\x14model_version_statusB\x03\xf8\x01\x01b\x06proto3'
    ,
    # tensorflow_serving/apis/predict.proto
    b'\n%tensorflow_serving/apis/predict.proto\x12\x12tensorflow.serving\x1a&tensorflow/core/framework/tensor.proto\x1a'
    b'#tensorflow_serving/apis/model.proto"\xc4\x08\n\x0ePredictRequest\x121\n\nmodel_spec\x18\x01 \x01(\x0b2\x1d.tensorflow.serving.Mod'
    b'elSpec\x12>\n\x06inputs\x18\x02 \x03(\x0b2..tensorflow.serving.PredictRequest.InputsEntry\x12\x15\n\routput_filter\x18\x03 \x03(\t\x12L\n\x18pre'
    b'dict_streamed_options\x18\x05 \x01(\x0b2*.tensorflow.serving.PredictStreamedOptions\x12\x16\n\tclient_id\x18\x06 \x01(\x0cH\x00\x88\x01\x01\x12O\n\x0fr'
    b'equest_options\x18\x07 \x01(\x0b21.tensorflow.serving.PredictRequest.RequestOptionsH\x01\x88\x01\x01\x1aF\n\x0bInputsEntry\x12\x0b\n\x03key\x18\x01'
    b' \x01(\t\x12&\n\x05value\x18\x02 \x01(\x0b2\x17.tensorflow.TensorProto:\x028\x01\x1a\x80\x05\n\x0eRequestOptions\x12\x16\n\tclient_id\x18\x01 \x01(\x0cH\x00\x88\x01\x01\x12d\n\x12deter'
    b'ministic_mode\x18\x02 \x01(\x0e2C.tensorflow.serving.PredictRequest.RequestOptions.DeterministicModeH\x01\x88\x01\x01\x122\n%ret'
    b'urn_additional_arrays_from_prefill\x18\x03 \x01(\x08H\x02\x88\x01\x01\x12\x19\n\x11return_stoptokens\x18\x04 \x03(\x03\x12"\n\x15return_all_stoptokens\x18\t '
    b'\x01(\x08H\x03\x88\x01\x01\x12\x1d\n\x10max_cache_length\x18\x06 \x01(\x03H\x04\x88\x01\x01\x12S\n\thandshake\x18\r \x01(\x0b2;.tensorflow.serving.PredictRequest.Reque'
    b'stOptions.HandshakeH\x05\x88\x01\x01\x1a,\n\tHandshake\x12\x1f\n\x17estimated_payload_bytes\x18\x01 \x01(\x03"O\n\x11DeterministicMode\x12"\n\x1eDETER'
    b'MINISTIC_MODE_UNSPECIFIED\x10\x00\x12\x16\n\x12FIXED_DECODER_SLOT\x10\x01B\x0c\n\n_client_idB\x15\n\x13_deterministic_modeB(\n&_return_'
    b'additional_arrays_from_prefillB\x18\n\x16_return_all_stoptokensB\x13\n\x11_max_cache_lengthB\x0c\n\n_handshakeB\x0c\n\n_clie'
    b'nt_idB\x12\n\x10_request_optionsJ\x04\x08\x04\x10\x05"\xdb\x02\n\x16PredictStreamedOptions\x12N\n\rrequest_state\x18\x01 \x01(\x0e27.tensorflow.servi'
    b'ng.PredictStreamedOptions.RequestState\x12Y\n\x10split_dimensions\x18\x02 \x03(\x0b2?.tensorflow.serving.PredictStreame'
    b'dOptions.SplitDimensionsEntry\x12\x1e\n\x16return_single_response\x18\x03 \x01(\x08\x1a6\n\x14SplitDimensionsEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r'
    b'\n\x05value\x18\x02 \x01(\x05:\x028\x01">\n\x0cRequestState\x12\x08\n\x04NONE\x10\x00\x12\t\n\x05SPLIT\x10\x01\x12\r\n\tEND_SPLIT\x10\x02\x12\n\n\x06CANCEL\x10\x03"\xd0\x01\n\x0fPredictRespons'
    b'e\x121\n\nmodel_spec\x18\x02 \x01(\x0b2\x1d.tensorflow.serving.ModelSpec\x12A\n\x07outputs\x18\x01 \x03(\x0b20.tensorflow.serving.PredictRe'
    b'sponse.OutputsEntry\x1aG\n\x0cOutputsEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12&\n\x05value\x18\x02 \x01(\x0b2\x17.tensorflow.TensorProto:\x028\x01B\x03\xf8\x01\x01b\x06p'
    b'roto3'
    ,
)
